"""A load that waits for room on a child: given up, and no failure, when the child is to go."""

from __future__ import annotations

import asyncio

import aiohttp
from structlog.testing import capture_logs

from ollamad.config import Config
from ollamad.fleet.bell import Bell
from ollamad.fleet.replicas import Replicas
from ollamad.fleet.tallies import Tallies
from ollamad.routing.memory import Line
from ollamad.routing.snapshot import ChildView, Snapshot
from ollamad.supervision.state import Phase
from tests.support.scene import RUN, M, child, fleet, memory


class World:
    """One child, as the test has it."""

    def __init__(self, only: ChildView) -> None:
        self.only = only

    def snapshot(self) -> Snapshot:
        return fleet(self.only)

    def distrust(self, child: str, life: int) -> None:
        raise AssertionError(f"life {life} of {child} has done nothing wrong")

    def look_again(self, child: str) -> None:
        raise AssertionError(f"{child} has not been asked for anything")


async def test_a_load_that_waits_for_room_on_a_child_that_is_told_to_drain_is_no_failed_load() -> None:
    world = World(child("gpu0", "other:latest", busy=1))
    changed, known = Bell(), memory()
    known.lines[M, ""] = Line(1)
    tallies = Tallies(models_max=9, requests_kept=9, events_kept=9)
    async with aiohttp.ClientSession() as session:
        replicas = Replicas(known, session, Config, world, changed, tallies)
        replicas.begin(world.only, RUN, ("other:latest",))
        with capture_logs() as logged:
            async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
                running = tasks.create_task(replicas.run())
                await asyncio.sleep(0)
                world.only = child("gpu0", "other:latest", phase=Phase.DRAINING)
                while replicas.load_on("gpu0") is not None:
                    changed.ring()
                    await asyncio.sleep(0)
                running.cancel()
    assert not tallies.loads_failed
    assert [said["event"] for said in logged if said["log_level"] == "warning"] == []
