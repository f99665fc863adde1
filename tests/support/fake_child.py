"""A child in the test's own loop, as far as models go, and a fleet of such: pulls stop at gates that the test opens."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from ollamad.fleet.bell import Bell
from ollamad.fleet.dispatcher import Lease
from ollamad.routing.decide import Request
from ollamad.routing.snapshot import ChildView, Resident, Snapshot
from ollamad.supervision.state import Phase, Want
from tests.support.scene import plain_dispatcher
from tests.support.stores import put_model


@dataclass
class FakeChild:
    """Pulls into a store of its own when its gate opens; can refuse, fail or hang up instead."""

    root: Path
    port: int = 0
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    refusal: tuple[int, str] | None = None
    error: str = ""
    hang_ups: int = 0
    loaded: list[str] = field(default_factory=list)

    async def pull(self, request: web.Request) -> web.StreamResponse:
        found = await request.json()
        self.asked.append((request.path, found))
        if self.refusal:
            return web.json_response({"error": self.refusal[1]}, status=self.refusal[0])
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        await _tell(response, status="pulling manifest")
        for completed in (1, 2):
            await _tell(response, status="pulling ab", digest="sha256:ab", total=3, completed=completed)
        if self.hang_ups:
            self.hang_ups -= 1
            assert request.transport is not None
            request.transport.abort()
            return response
        await self.gate.wait()
        if self.error:
            await _tell(response, error=self.error)
        else:
            put_model(self.root, found["model"].rpartition("/")[2].removesuffix(":latest"), b"config", b"weights")
            await _tell(response, status="success")
        return response

    async def load(self, request: web.Request) -> web.StreamResponse:
        found = await request.json()
        self.asked.append((request.path, found))
        if self.refusal and request.path == "/api/generate":
            return web.json_response({"error": self.refusal[1]}, status=self.refusal[0])
        return web.json_response({"done": True, "done_reason": "load"})

    def application(self) -> web.Application:
        application = web.Application()
        application.router.add_post("/api/pull", self.pull)
        application.router.add_post("/api/generate", self.load)
        application.router.add_post("/api/embed", self.load)
        return application


async def _tell(response: web.StreamResponse, **record: object) -> None:
    await response.write(json.dumps(record).encode() + b"\n")


class FakeFleet:
    """Children that are all ready; leases are the real ones."""

    def __init__(self, **children: FakeChild) -> None:
        self.children = children
        self.changed = Bell()
        self.failures: list[str] = []
        self.looks = 0
        self._dispatcher = plain_dispatcher(self.changed, self.snapshot)

    def snapshot(self) -> Snapshot:
        self.looks += 1
        views = [
            ChildView(
                name,
                Want.UP,
                Phase.READY,
                trusted=True,
                in_flight=0,
                life=1,
                port=child.port,
                residents=tuple(Resident(model, None, None, None) for model in child.loaded),
            )
            for name, child in self.children.items()
        ]
        return Snapshot(0.0, tuple(views))

    @asynccontextmanager
    async def lease(self, request: Request, *, wait: bool = True) -> AsyncIterator[Lease]:
        async with self._dispatcher.lease(request, wait=wait) as lease:
            yield lease

    def failed(self, lease: Lease) -> None:
        self.failures.append(lease.child)

    def loaded(self, lease: Lease) -> None:
        assert lease.model is not None
        self.children[lease.child].loaded.append(lease.model)


@asynccontextmanager
async def fake_fleet(*roots: Path) -> AsyncIterator[FakeFleet]:
    """One child for each store, by the names of their folders."""
    children = {root.name: FakeChild(root) for root in roots}
    runners = []
    try:
        for child in children.values():
            runner = web.AppRunner(child.application(), access_log=None, shutdown_timeout=0.1)
            runners.append(runner)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            child.port = runner.addresses[0][1]
        yield FakeFleet(**children)
    finally:
        for child in children.values():
            child.gate.set()
        for runner in runners:
            await runner.cleanup()
