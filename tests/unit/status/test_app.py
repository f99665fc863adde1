from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
from dataclasses import dataclass, field

import pytest
from aiohttp.test_utils import TestClient
from aiohttp.web import Application, Request
from pytest_aiohttp.plugin import AiohttpClient

from ollamad.config.schema import Status
from ollamad.fleet.models_view import ModelsView, PullView
from ollamad.routing.snapshot import ChildView, Snapshot
from ollamad.status.app import status_runner
from ollamad.status.board import Board
from ollamad.status.dashboard import load_schema
from ollamad.status.rendered import AGE_HEADER
from ollamad.status.view import status
from ollamad.supervision.state import Phase, Want
from tests.support.showcase import Showcase
from tests.support.sse import events

STARTING = Snapshot(1.0, (ChildView("gpu0", Want.UP, Phase.STARTING, trusted=True, in_flight=0),))
READY = Snapshot(2.0, (ChildView("gpu0", Want.UP, Phase.READY, trusted=True, in_flight=4),))
MODELS = ModelsView(
    "shared", pulls=(PullView("m:latest", "pulling", 1, 2, 3),), copies=(), ensure=(), preload=(), sync=None
)
STORE = {
    "store": "shared",
    "pulls": [{"model": "m:latest", "status": "pulling", "completed_bytes": 1, "total_bytes": 2, "listeners": 3}],
    "copies": [],
    "ensure": [],
    "preload": [],
}
STOPPING = Snapshot(3.0, READY.children, stopping=True)


@dataclass
class Fleet:
    """What the listener looks at; it changes as a fleet does."""

    now: Snapshot = field(default=STARTING)
    scrapes: int = 0

    def look(self) -> Snapshot:
        return self.now

    def scrape(self) -> str:
        self.scrapes += 1
        return f"x {self.scrapes}\n"


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


@pytest.fixture
async def client(fleet: Fleet, aiohttp_client: AiohttpClient) -> TestClient[Request, Application]:
    board = Board(fleet.look, Showcase().tallies, Status(viewers_max=1))
    return await aiohttp_client(status_runner(fleet.look, lambda: MODELS, fleet.scrape, board).app)


async def test_status_is_the_snapshot_of_the_moment(client: TestClient[Request, Application], fleet: Fleet) -> None:
    for fleet.now in (STARTING, READY, STOPPING):
        expected = {**status(fleet.now), "store": {**STORE, "sync": None}}
        async with asyncio.timeout(20):
            while True:  # who asks again at once may be given the same page
                async with client.get("/status") as answer:
                    assert (answer.status, answer.content_type) == (200, "application/json")
                    assert int(answer.headers[AGE_HEADER]) >= 0
                    if await answer.json() == expected:
                        break


async def test_readyz_says_503_until_a_child_can_take_requests_and_again_at_the_end(
    client: TestClient[Request, Application], fleet: Fleet
) -> None:
    for fleet.now, code, ready in ((STARTING, 503, False), (READY, 200, True), (STOPPING, 503, False)):
        async with client.get("/readyz") as answer:
            assert (answer.status, await answer.json()) == (code, {"ready": ready})


async def test_healthz_says_that_the_loop_lives_ready_or_not(
    client: TestClient[Request, Application], fleet: Fleet
) -> None:
    for fleet.now in (STARTING, READY, STOPPING):
        async with client.get("/healthz") as answer:
            assert (answer.status, await answer.json()) == (200, {"ok": True})


@pytest.mark.parametrize(("method", "path", "code"), [("POST", "/", 405), ("GET", "/x", 404), ("POST", "/status", 405)])
async def test_there_is_nothing_else_there(
    client: TestClient[Request, Application], method: str, path: str, code: int
) -> None:
    async with client.request(method, path) as answer:
        assert answer.status == code
        assert (await answer.json())["error"].endswith("GET /openapi.json tells what there is")
        assert answer.headers.get("Allow") == (None if code == 404 else "GET,HEAD")


async def test_a_head_request_is_answered_as_monitors_ask_it(client: TestClient[Request, Application]) -> None:
    async with client.head("/readyz") as answer:
        assert (answer.status, await answer.read()) == (503, b"")


async def test_metrics_are_of_the_type_that_prometheus_asks_for(client: TestClient[Request, Application]) -> None:
    async with client.get("/metrics") as answer:
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert await answer.text() == "x 1\n"


async def test_the_page_may_run_its_own_script_and_load_nothing(client: TestClient[Request, Application]) -> None:
    async with client.get("/") as answer:
        text, policy = await answer.text(), answer.headers["Content-Security-Policy"]
        assert (answer.status, answer.content_type) == (200, "text/html")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    for kind in ("style", "script"):
        (inside,) = re.findall(rf"<{kind}>(.*?)</{kind}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text)


async def test_the_schema_of_status_is_served_beside_it(client: TestClient[Request, Application]) -> None:
    async with client.get("/status.schema.json") as answer:
        assert (answer.content_type, await answer.json(content_type=None)) == (
            "application/schema+json",
            json.loads(load_schema()),
        )


async def test_who_looks_is_told_at_once_and_one_too_many_is_told_to_come_back(
    client: TestClient[Request, Application], fleet: Fleet
) -> None:
    async with client.get("/events") as answer:
        assert answer.content_type == "text/event-stream"
        told = events(answer)
        assert (await anext(told))[0] == "past"
        name, look = await anext(told)
        assert (name, look["status"]) == ("look", status(fleet.now))
        async with client.get("/events") as other:
            assert other.status == 503
            assert "viewers_max" in (await other.json())["error"]
