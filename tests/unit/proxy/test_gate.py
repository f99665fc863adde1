"""Who may do what through the proxy: by key, by model, by address."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from ollamad.access.file import write_keys
from ollamad.access.key import ENTROPY_BYTES, Grant, Scope, mint
from ollamad.access.keyring import Keyring
from ollamad.config.schema import Proxy
from ollamad.errors import ClientError
from ollamad.ollama.routes import route_of
from ollamad.proxy.fields import names_in
from ollamad.proxy.gate import NO_LABEL, Gate, sees
from ollamad.proxy.merge import permitted
from ollamad.proxy.shared import TRIP, Trip, trip_of
from ollamad.routing.decide import Need, Priority, Request

NOW = datetime(2026, 11, 24, tzinfo=UTC)


class Door:
    """A gate, and one key for it."""

    def __init__(self, folder: Path, **granted: Any) -> None:
        grant = Grant(name="chat", **granted)
        self.id, self.secret, key = mint(grant, b"k" * ENTROPY_BYTES, NOW)
        write_keys(folder / "keys.toml", {self.id: key})
        ring = Keyring(folder / "keys.toml", keys_max=9)
        ring.read()()
        self.gate = Gate(ring, Proxy)

    def ask(
        self, method: str, path: str, body: bytes = b"", *, headers: dict[str, str] | None = None
    ) -> tuple[web.Request, str | None]:
        """What the handler does with a request, as far as the gate is concerned."""
        sent = {"Content-Type": "application/json", "Authorization": f"Bearer {self.secret}", **(headers or {})}
        incoming = make_mocked_request(method, path, sent)
        incoming[TRIP] = Trip()
        self.gate.know(incoming)
        route = route_of(method, incoming.path)
        label = self.gate.admit(incoming, route)
        self.gate.admit_body(incoming, route, body)
        return incoming, label

    def refusal(
        self, method: str, path: str, body: bytes = b"", *, headers: dict[str, str] | None = None
    ) -> ClientError:
        with pytest.raises(ClientError) as caught:
            self.ask(method, path, body, headers=headers)
        return caught.value


@pytest.fixture
def some(tmp_path: Path) -> Door:
    return Door(tmp_path, models=("llama3*",), scopes=(*Scope,))


def test_without_keys_nobody_is_asked() -> None:
    gate = Gate(Keyring(None, keys_max=1), Proxy)
    incoming = make_mocked_request("DELETE", "/api/delete", {"Authorization": "Bearer whatever"})
    incoming[TRIP] = Trip()
    route = route_of("DELETE", "/api/delete")
    assert gate.know(incoming) is NO_LABEL
    assert gate.admit(incoming, route) is None
    gate.admit_body(incoming, route, b"what it likes")
    request = Request(Need.ANY)
    assert gate.granted(incoming, request) is request
    assert sees(incoming) is None


@pytest.mark.parametrize("word", ["", "Basic eDpr", "Bearer x"])
def test_no_key_and_a_wrong_one_are_401(tmp_path: Path, word: str) -> None:
    door = Door(tmp_path)
    assert door.refusal("GET", "/api/tags", headers={"Authorization": word}).status == 401


def test_a_key_names_its_requests_and_gives_them_its_priority(tmp_path: Path) -> None:
    door = Door(tmp_path, priority="low")
    incoming, label = door.ask("POST", "/api/chat", b"{}")
    assert label == "chat"
    request = door.gate.granted(incoming, Request(Need.RUNNER, "m", client="10.0.0.1", priority=Priority.HIGH))
    assert (request.client, request.priority) == (door.id, Priority.LOW)


@pytest.mark.parametrize(
    ("own", "asked", "given"),
    [
        ("high", None, Priority.HIGH),
        ("high", Priority.LOW, Priority.LOW),
        ("normal", Priority.HIGH, Priority.NORMAL),
        ("low", Priority.NORMAL, Priority.LOW),
    ],
)
def test_a_request_may_ask_for_less_than_its_key_has(
    tmp_path: Path, own: str, asked: Priority | None, given: Priority
) -> None:
    door = Door(tmp_path, priority=own)
    headers = {"X-Ollamad-Priority": asked.name} if asked else {}
    incoming, _ = door.ask("POST", "/api/chat", b"{}", headers=headers)
    assert door.gate.granted(incoming, Request(Need.RUNNER, "m", priority=asked or Priority.NORMAL)).priority is given


def test_scopes_are_seen_before_a_body_is_read(tmp_path: Path) -> None:
    door = Door(tmp_path)
    for method, path in (("POST", "/api/pull"), ("DELETE", "/api/delete"), ("POST", "/api/blobs/sha256:0")):
        assert door.refusal(method, path).status == 403
    assert door.ask("POST", "/api/show", b"")[1] == "chat"


NAMING: list[tuple[str, str, dict[str, object]]] = [
    ("POST", "/api/chat", {"model": "{}"}),
    ("POST", "/api/generate", {"Model": "{}"}),
    ("POST", "/api/embed", {"model": "{}", "input": "x"}),
    ("POST", "/v1/chat/completions", {"model": "{}"}),
    ("POST", "/v1/messages", {"model": "{}"}),
    ("POST", "/api/show", {"name": "{}"}),
    ("POST", "/api/pull", {"model": "{}"}),
    ("DELETE", "/api/delete", {"name": "{}"}),
    ("POST", "/api/copy", {"source": "llama3", "destination": "{}"}),
    ("POST", "/api/copy", {"source": "{}", "destination": "llama3"}),
    ("POST", "/api/create", {"model": "llama3", "from": "{}"}),
    ("POST", "/api/create", {"model": "{}", "from": "llama3"}),
]


@pytest.mark.parametrize(("method", "path", "fields"), NAMING)
def test_a_model_that_a_key_is_not_for_is_403_whether_it_is_there_or_not(
    some: Door, method: str, path: str, fields: dict[str, object]
) -> None:
    def body(name: str) -> bytes:
        return json.dumps(fields).replace("{}", name).encode()

    assert some.ask(method, path, body("LLAMA3.2:3b"))[1] == "chat"
    error = some.refusal(method, path, body("qwen3:8b"))
    assert error.status == 403
    assert "'qwen3:8b'" in str(error)


def test_a_model_in_a_path_is_held_against_it_too(some: Door) -> None:
    assert some.ask("GET", "/v1/models/llama3:8b")[1] == "chat"
    assert some.refusal("GET", "/v1/models/qwen3").status == 403
    assert some.refusal("GET", "/v1/models/%71wen3").status == 403


DOUBTFUL = [
    b"",
    b"[]",
    b"{",
    b"{}",
    b'{"model": null}',
    b'{"model": 1}',
    b'{"model": ["llama3"]}',
    b'{"model": "qwen3", "model": null}',
    b'{"model": "llama3", "MODEL": "qwen3"}',
    b'{"MODEL": "qwen3", "model": "llama3"}',
    b'{"model": "qwen3", "name": "llama3"}',
    b'{"model": "llama3"}{"model": "qwen3"}',
    b'\xef\xbb\xbf{"model": "llama3"}',
    b'{"model": "llama3\xff"}',
    b'{"mo\\u0064el": "qwen3"}',
    b"[" * 100_000,
]


@pytest.mark.parametrize("body", DOUBTFUL, ids=range(len(DOUBTFUL)))
def test_where_a_child_might_read_another_model_nothing_passes(some: Door, body: bytes) -> None:
    assert some.refusal("POST", "/api/chat", body).status == 403


@pytest.mark.parametrize("body", DOUBTFUL, ids=range(len(DOUBTFUL)))
def test_a_key_for_all_models_passes_what_a_child_will_judge(tmp_path: Path, body: bytes) -> None:
    assert Door(tmp_path).ask("POST", "/api/chat", body)[1] == "chat"


FIELDS = st.sampled_from(["model", "MODEL", "Model", "name", "NAME", "x"])
VALUES = st.sampled_from(["llama3", "qwen3", None, 1])


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Door:
    return Door(tmp_path_factory.mktemp("door"), models=("llama3",))


@given(fields=st.dictionaries(FIELDS, VALUES, max_size=4))
def test_nothing_that_go_could_read_as_another_model_passes(narrow: Door, fields: dict[str, object]) -> None:
    try:
        narrow.ask("POST", "/api/chat", json.dumps(fields).encode())
    except ClientError:
        return
    named = [value for name, value in fields.items() if name != "x"]
    assert named
    assert set(named) == {"llama3"}


@pytest.mark.parametrize(
    "headers",
    [{"Content-Encoding": "zstd"}, {"Content-Encoding": "x"}, {"Content-Type": "multipart/form-data; boundary=b"}],
)
def test_what_can_not_be_looked_into_is_415_for_a_key_for_some_models(some: Door, headers: dict[str, str]) -> None:
    assert some.refusal("POST", "/v1/chat/completions", b'{"model": "llama3"}', headers=headers).status == 415


@pytest.mark.parametrize("recipe", [b'"modelfile": "FROM qwen3"', b'"path": "/store/blobs/sha256-12"', b'"Path": null'])
def test_a_modelfile_may_name_any_model_and_so_is_not_for_a_key_for_some(some: Door, recipe: bytes) -> None:
    assert some.refusal("POST", "/api/create", b'{"model": "llama3", %b}' % recipe).status == 403


def test_a_form_is_none_for_such_a_key_whatever_it_says_it_is(some: Door) -> None:
    assert some.refusal("POST", "/v1/audio/transcriptions", b'{"model": "llama3"}').status == 415


def test_a_list_shows_only_what_its_reader_may_use(some: Door) -> None:
    incoming, _ = some.ask("GET", "/api/tags")
    allows = sees(incoming)
    assert allows is not None
    body = json.dumps({"models": [{"name": "llama3:8b"}, {"name": "qwen3:8b"}, 5, {}], "more": 1}).encode()
    assert json.loads(permitted(body, "models", "name", allows)) == {"models": [{"name": "llama3:8b"}], "more": 1}
    assert json.loads(permitted(b"no list", "models", "name", allows)) == {"models": []}


def test_names_are_found_whatever_the_case_and_none_where_it_is_doubtful() -> None:
    wanted = frozenset({"source"})
    assert names_in(b'{"Source": "a", "\xc5\xbfource": "b"}', wanted) == ["a", "b"], "Go folds the long s, too"
    assert names_in(b'{"source": null}', wanted) is None
    assert names_in(b"x", wanted) is None
    assert names_in(b"{}", wanted) == []


def test_an_address_may_ask_so_often(tmp_path: Path) -> None:
    gate = Gate(Keyring(None, keys_max=1), lambda: Proxy(requests_per_client_per_minute=2))
    route = route_of("GET", "/api/tags")
    found = []
    for _ in range(3):
        incoming = make_mocked_request("GET", "/api/tags")
        incoming[TRIP] = Trip()
        try:
            gate.admit(incoming, route)
        except ClientError as error:
            found.append((error.status, error.retry_after_s))
    assert found == [(429, 30)]
    assert not list(tmp_path.iterdir())


def test_what_a_key_has_in_flight_is_given_back_with_its_request(tmp_path: Path) -> None:
    door = Door(tmp_path, concurrent_max=1)
    incoming, _ = door.ask("POST", "/api/chat", b"{}")
    assert door.refusal("POST", "/api/chat", b"{}").status == 429
    holder = trip_of(incoming).holder
    assert holder is not None
    holder.leaves()
    assert door.ask("POST", "/api/chat", b"{}")[1] == "chat"
