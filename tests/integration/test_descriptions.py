"""Both faces held against their own descriptions, by requests that follow them and by requests that do not.

In place of schemathesis, which finds the same (it was run by hand, see docs/SECURITY.md) and brings twelve packages.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import jsonschema
import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from ollamad.config.address import Address
from ollamad.config.schema import Status
from ollamad.control.describe import openapi as control_openapi
from ollamad.control.endpoints import ENDPOINTS
from ollamad.fleet.models_view import ModelsView
from ollamad.status.app import status_runner
from ollamad.status.board import Board
from ollamad.status.describe import openapi as status_openapi
from ollamad.status.guard import Guard
from tests.support.apart import apart
from tests.support.control_face import Puppets, face
from tests.support.showcase import Showcase
from tests.unit.status.test_guard import Rings

CONTROL: dict[str, Any] = control_openapi(ENDPOINTS)
STATUS: dict[str, Any] = status_openapi()
JUNK = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
NAMES = st.sampled_from(["gpu0", "gpu1", "chat", "restart-1", "..", "%00", "a/b"]) | JUNK
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | JUNK,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(JUNK, inner, max_size=3),
    max_leaves=5,
)
GRANTS = st.fixed_dictionaries(
    {"name": st.from_regex(r"[a-z]{1,8}", fullmatch=True) | JUNK},
    optional={
        "scopes": st.lists(st.sampled_from(["infer", "read", "manage", "status", "all"]), max_size=5),
        "models": st.lists(JUNK, max_size=3),
        "priority": st.sampled_from(["high", "normal", "low", "x"]),
        "requests_per_minute": st.integers(-1, 100),
        "concurrent_max": st.integers(-1, 100) | VALUES,
        "expires": st.datetimes(timezones=st.timezones()).map(lambda at: at.isoformat()) | JUNK,
        "more": VALUES,
    },
)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, by its row of a description."""

    method: str
    path: str
    operation: dict[str, Any]
    body: bytes | None = None
    headers: tuple[tuple[str, str], ...] = ()


@st.composite
def requests(draw: st.DrawFn, document: dict[str, Any], leave_out: frozenset[str]) -> Asked:
    """One of those that the description has, or nearly."""
    rows = [(path, method) for path in document["paths"] if path not in leave_out for method in document["paths"][path]]
    template, method = draw(st.sampled_from(rows))
    operation = document["paths"][template][method]
    path = re.sub(r"{\w+}", lambda _: quote(draw(NAMES.filter(bool)), safe=""), template)
    declared = {one["name"]: one["schema"] for one in operation.get("parameters", ()) if one["in"] == "query"}
    query = {}
    for name in draw(st.sets(st.sampled_from(sorted({*declared, "more"})))):
        allowed = declared.get(name, {}).get("enum")
        query[name] = draw((st.sampled_from(allowed) | JUNK) if allowed else JUNK)
    body = None
    if "requestBody" in operation:
        body = draw(GRANTS.map(json.dumps) | VALUES.map(json.dumps) | JUNK).encode()
    return Asked(method.upper(), path + (f"?{urlencode(query)}" if query else ""), operation, body)


def told(connection: http.client.HTTPConnection, asked: Asked) -> tuple[int, str, bytes]:
    """The answer. A stream that follows something is read no further than its head."""
    connection.request(asked.method, asked.path, asked.body, dict(asked.headers))
    answer = connection.getresponse()
    follows = "follow=1" in asked.path and answer.status == 200
    content = b"" if follows else answer.read()
    answer.close()
    connection.close()
    return answer.status, answer.getheader("Content-Type", "").partition(";")[0], content


def is_as_described(document: dict[str, Any], asked: Asked, answer: tuple[int, str, bytes]) -> None:
    status, kind, content = answer
    described = asked.operation["responses"].get(str(status))
    assert described, f"{asked.method} {asked.path}: {status} is not in the description\n{content[:300]!r}"
    assert kind in described["content"], f"{asked.method} {asked.path}: {kind}"
    schema = {**described["content"][kind]["schema"], "components": document["components"]}
    if kind == "application/x-ndjson":
        for line in content.splitlines():
            jsonschema.validate(json.loads(line), schema)
    elif "json" in kind:
        jsonschema.validate(json.loads(content), schema)


class UnixConnection(http.client.HTTPConnection):
    """To a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("ollamad", timeout=20)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(str(self._path))


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("face")
    puppets = Puppets()
    puppets.gate.set()
    with apart(face(folder / "s", puppets=puppets, keys_file=folder / "keys.toml")) as served:
        yield served.path


@given(asked=requests(CONTROL, frozenset()))
@settings(max_examples=500)
def test_the_control_face_answers_as_its_description_says(control: Path, asked: Asked) -> None:
    is_as_described(CONTROL, asked, told(UnixConnection(control), asked))


@pytest.mark.parametrize("method", ["PUT", "DELETE", "TRACE", "PROPFIND"])
def test_a_method_that_it_has_not_is_405_with_those_that_it_has(control: Path, method: str) -> None:
    connection = UnixConnection(control)
    connection.request(method, "/v1/status")
    answer = connection.getresponse()
    assert (answer.status, answer.getheader("Allow")) == (405, "GET")
    assert "openapi.json" in json.loads(answer.read())["error"]
    answer.close()
    connection.close()


@asynccontextmanager
async def status_serving(rings: Rings) -> AsyncIterator[int]:
    show = Showcase()
    show.fill()
    models = ModelsView("shared", pulls=(), copies=(), ensure=(), preload=(), sync=None)
    guard = Guard(rings.ring, Address("0.0.0.0", 1), allow_unauthenticated=False, allowed_hosts=tuple)
    board = Board(show.look, show.tallies, Status())
    runner = status_runner(show.look, lambda: models, lambda: "page\n", board, guard)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@pytest.fixture(scope="module")
def status(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Rings]]:
    rings = Rings(tmp_path_factory.mktemp("rings"))
    with apart(status_serving(rings)) as port:
        yield port, rings


@given(asked=requests(STATUS, frozenset({"/events"})), word=st.sampled_from(["good", "other", "junk", ""]))
@settings(max_examples=300)
def test_the_status_listener_answers_as_its_description_says(
    status: tuple[int, Rings], asked: Asked, word: str
) -> None:
    port, rings = status
    key = {"good": rings.good, "other": rings.other, "junk": "olk_x"}.get(word)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    with_key = Asked(asked.method, asked.path, asked.operation, None, tuple(headers.items()))
    is_as_described(STATUS, with_key, told(connection, with_key))


def test_the_status_listener_s_description_is_where_it_says(status: tuple[int, Rings]) -> None:
    port, rings = status
    described = STATUS["paths"]["/openapi.json"]["get"]
    asked = Asked("GET", "/openapi.json", described, None, (("X-Api-Key", rings.good),))
    _, _, content = told(http.client.HTTPConnection("127.0.0.1", port, timeout=20), asked)
    assert json.loads(content) == STATUS
