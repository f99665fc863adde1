from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from aiohttp.test_utils import TestClient
from aiohttp.web import Application, Request
from pytest_aiohttp.plugin import AiohttpClient

from ollamad.fleet.models_view import ModelsView, PullView
from ollamad.routing.snapshot import ChildView, Snapshot
from ollamad.status.app import status_runner
from ollamad.status.view import status
from ollamad.supervision.state import Phase, Want

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

    def look(self) -> Snapshot:
        return self.now


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


@pytest.fixture
async def client(fleet: Fleet, aiohttp_client: AiohttpClient) -> TestClient[Request, Application]:
    return await aiohttp_client(status_runner(fleet.look, lambda: MODELS).app)


async def test_status_is_the_snapshot_of_the_moment(client: TestClient[Request, Application], fleet: Fleet) -> None:
    for fleet.now in (STARTING, READY, STOPPING):
        async with client.get("/status") as answer:
            assert (answer.status, answer.content_type) == (200, "application/json")
            assert await answer.json() == {**status(fleet.now), "store": {**STORE, "sync": None}}


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


@pytest.mark.parametrize(("method", "path", "code"), [("GET", "/", 404), ("GET", "/x", 404), ("POST", "/status", 405)])
async def test_there_is_nothing_else_there(
    client: TestClient[Request, Application], method: str, path: str, code: int
) -> None:
    async with client.request(method, path) as answer:
        assert answer.status == code


async def test_a_head_request_is_answered_as_monitors_ask_it(client: TestClient[Request, Application]) -> None:
    async with client.head("/readyz") as answer:
        assert (answer.status, await answer.read()) == (503, b"")
