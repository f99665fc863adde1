from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from ollamad.errors import CapacityError
from ollamad.fleet.bell import Bell
from ollamad.fleet.dispatcher import Dispatcher
from ollamad.routing.decide import Need, Request
from ollamad.routing.snapshot import ChildView, Snapshot
from ollamad.supervision.state import Phase, Want

RUN = Request(Need.RUNNER, "m:latest")


class World:
    """A fleet whose children's phases the test sets by hand."""

    def __init__(self, *children: str, waiting_max: int = 10, ready_wait_s: float = 60.0) -> None:
        self.changed = Bell()
        self.phases = dict.fromkeys(children, Phase.READY)
        self.stopping = False
        self.dispatcher = Dispatcher(self.changed, waiting_max=waiting_max, ready_wait_s=ready_wait_s)

    def look(self) -> Snapshot:
        views = [
            ChildView(name, Want.UP, phase, trusted=True, in_flight=self.dispatcher.in_flight(name), life=1, port=1)
            for name, phase in self.phases.items()
        ]
        return Snapshot(0.0, tuple(views), stopping=self.stopping)

    def set(self, name: str, phase: Phase) -> None:
        self.phases[name] = phase
        self.changed.ring()

    async def waiting(self, number: int) -> None:
        """Until so many requests wait."""
        async with asyncio.timeout(5):
            while self.dispatcher.waiting != number:
                await asyncio.sleep(0)


async def test_a_lease_counts_while_it_is_held_and_not_after() -> None:
    world = World("a")
    async with world.dispatcher.lease(RUN, world.look) as lease:
        assert (lease.child, world.dispatcher.in_flight("a"), world.dispatcher.total_in_flight) == ("a", 1, 1)
    assert world.dispatcher.total_in_flight == 0


async def test_a_lease_comes_back_when_its_holder_fails_or_is_cancelled() -> None:
    world = World("a")
    with pytest.raises(ZeroDivisionError):
        async with world.dispatcher.lease(RUN, world.look):
            raise ZeroDivisionError

    async def hold() -> None:
        async with world.dispatcher.lease(RUN, world.look):
            await asyncio.Event().wait()

    async with asyncio.TaskGroup() as tasks:
        holder = tasks.create_task(hold())
        while not world.dispatcher.total_in_flight:
            await asyncio.sleep(0)
        holder.cancel()
    assert world.dispatcher.total_in_flight == 0


async def test_a_lease_shows_as_a_stream_that_says_when_its_child_was_last_heard() -> None:
    world = World("a")
    async with world.dispatcher.lease(RUN, world.look) as lease:
        before = world.dispatcher.streams("a")
        lease.heard()
        after = world.dispatcher.streams("a")
    assert [(stream.model, stream.since_s, stream.heard_s) for stream in before] == [("m:latest", lease.since_s, None)]
    assert after[0].heard_s is not None
    assert after[0].heard_s >= lease.since_s
    assert world.dispatcher.streams("a") == ()


async def test_leases_asked_for_in_one_burst_spread_over_the_children() -> None:
    world = World("a", "b")
    async with (
        world.dispatcher.lease(RUN, world.look) as one,
        world.dispatcher.lease(RUN, world.look) as two,
        world.dispatcher.lease(RUN, world.look) as three,
        world.dispatcher.lease(RUN, world.look) as four,
    ):
        assert sorted(lease.child for lease in (one, two, three, four)) == ["a", "a", "b", "b"]


async def test_a_request_waits_for_a_child_to_become_ready() -> None:
    world = World("a")
    world.set("a", Phase.STARTING)

    async def ask() -> str:
        async with world.dispatcher.lease(RUN, world.look) as lease:
            return lease.child

    async with asyncio.TaskGroup() as tasks:
        asked = tasks.create_task(ask())
        await world.waiting(1)
        world.set("a", Phase.READY)
    assert (asked.result(), world.dispatcher.waiting) == ("a", 0)


async def test_a_request_that_waits_in_vain_is_told_what_the_children_are_doing() -> None:
    world = World("a", ready_wait_s=0.01)
    world.set("a", Phase.BACKOFF)
    with pytest.raises(CapacityError, match="a backoff") as refused:
        async with world.dispatcher.lease(RUN, world.look):
            pass
    assert refused.value.retry_after_s > 0


async def test_a_request_that_may_not_wait_is_refused_at_once() -> None:
    world = World("a")
    world.set("a", Phase.STARTING)
    with pytest.raises(CapacityError, match="no child can take"):
        async with world.dispatcher.lease(RUN, world.look, wait=False):
            pass


async def test_one_more_than_may_wait_is_refused() -> None:
    world = World("a", waiting_max=1)
    world.set("a", Phase.STARTING)

    async def ask() -> None:
        async with world.dispatcher.lease(RUN, world.look):
            pass

    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(ask())
        await world.waiting(1)
        with pytest.raises(CapacityError, match="1 requests wait"):
            await ask()
        first.cancel()
    assert world.dispatcher.waiting == 0


async def test_a_stopping_daemon_gives_no_lease_and_sends_the_waiting_home() -> None:
    world = World("a")
    world.set("a", Phase.STARTING)

    async def ask() -> None:
        with pytest.raises(CapacityError, match="stopping"):
            async with world.dispatcher.lease(replace(RUN), world.look):
                pass

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(ask())
        await world.waiting(1)
        world.stopping = True
        world.changed.ring()
