from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from ollamad.errors import CapacityError
from ollamad.fleet.bell import Bell
from ollamad.fleet.dispatcher import Dispatcher, Limits
from ollamad.routing.decide import Need, Request
from ollamad.routing.knowledge import What
from ollamad.routing.snapshot import ChildView, LoadView, Snapshot
from ollamad.supervision.state import Phase
from tests.support.scene import EMBED, RUN, M, child, memory

ANY = Request(Need.ANY)


class World:
    """A fleet whose children's phases and models the test sets by hand; loads are noted, and done when it says."""

    def __init__(
        self, *children: str, models: tuple[str, ...] = (M,), slots: int = 1, limits: Limits | None = None
    ) -> None:
        self.changed = Bell()
        self.phases = dict.fromkeys(children, Phase.READY)
        self.models = dict.fromkeys(children, models)
        self.loads: dict[str, LoadView] = {}
        self.refusing = False
        self.looks = 0
        self.memory = memory(load_s=5.0, service_s=1.0)
        self._slots = slots
        self.dispatcher = Dispatcher(self.changed, self.memory, self.look, limits or Limits(10, 60.0, 60.0), self)

    def look(self) -> Snapshot:
        self.looks += 1
        views = tuple(
            child(
                name,
                *self.models[name],
                busy=self.dispatcher.busy(name),
                slots=self._slots,
                phase=phase,
                load=self.loads.get(name),
            )
            for name, phase in self.phases.items()
        )
        return Snapshot(0.0, views, refusing=self.refusing)

    def begin(self, child: ChildView, request: Request, evicts: tuple[str, ...]) -> None:
        assert request.model is not None
        self.loads[child.id] = LoadView(request.model, request.shape, 0.0, evicts)

    def loaded(self, name: str) -> None:
        self.models[name] = (self.loads.pop(name).model,)
        self.changed.ring()

    def set(self, name: str, phase: Phase) -> None:
        self.phases[name] = phase
        self.changed.ring()

    async def waiting(self, number: int) -> None:
        """Until so many requests wait."""
        async with asyncio.timeout(5):
            while self.dispatcher.waiting != number:
                await asyncio.sleep(0)

    async def ask(self, request: Request = RUN) -> str:
        async with self.dispatcher.lease(request) as lease:
            return lease.child


@asynccontextmanager
async def running(world: World) -> AsyncIterator[asyncio.TaskGroup]:
    """The dispatcher at work; the test's own tasks go into the group."""
    async with asyncio.TaskGroup() as tasks:
        work = tasks.create_task(world.dispatcher.run())
        await asyncio.sleep(0)
        async with asyncio.TaskGroup() as own:
            yield own
        work.cancel()


async def test_a_lease_counts_while_it_is_held_and_not_after() -> None:
    world = World("a")
    async with world.dispatcher.lease(RUN) as lease:
        assert (lease.child, world.dispatcher.in_flight("a"), world.dispatcher.total_in_flight) == ("a", 1, 1)
    assert world.dispatcher.total_in_flight == 0


async def test_a_lease_comes_back_when_its_holder_fails_or_is_cancelled() -> None:
    world = World("a")
    with pytest.raises(ZeroDivisionError):
        async with world.dispatcher.lease(RUN):
            raise ZeroDivisionError

    async def hold() -> None:
        async with world.dispatcher.lease(RUN):
            await asyncio.Event().wait()

    async with asyncio.TaskGroup() as tasks:
        holder = tasks.create_task(hold())
        while not world.dispatcher.total_in_flight:
            await asyncio.sleep(0)
        holder.cancel()
    assert world.dispatcher.total_in_flight == 0


async def test_a_lease_shows_as_a_stream_that_says_when_its_child_was_last_heard() -> None:
    world = World("a")
    async with world.dispatcher.lease(RUN) as lease:
        before = world.dispatcher.streams("a")
        lease.heard()
        after = world.dispatcher.streams("a")
    assert [(stream.model, stream.since_s, stream.heard_s) for stream in before] == [(M, lease.since_s, None)]
    assert after[0].heard_s is not None
    assert after[0].heard_s >= lease.since_s
    assert world.dispatcher.streams("a") == ()


async def test_leases_asked_for_in_one_burst_spread_over_the_children() -> None:
    world = World("a", "b", slots=2)
    async with (
        world.dispatcher.lease(RUN) as one,
        world.dispatcher.lease(RUN) as two,
        world.dispatcher.lease(RUN) as three,
        world.dispatcher.lease(RUN) as four,
    ):
        assert sorted(lease.child for lease in (one, two, three, four)) == ["a", "a", "b", "b"]


async def test_a_request_for_a_full_child_waits_here_and_is_bound_when_a_slot_frees() -> None:
    world = World("a")
    async with running(world) as tasks, world.dispatcher.lease(RUN):
        asked = tasks.create_task(world.ask())
        await world.waiting(1)
        assert world.dispatcher.in_flight("a") == 1
    assert (asked.result(), world.dispatcher.waiting) == ("a", 0)


async def test_a_model_that_nobody_has_is_loaded_once_for_all_who_wait() -> None:
    world = World("a", "b", models=(), slots=4)
    async with running(world) as tasks:
        asked = [tasks.create_task(world.ask()) for _ in range(4)]
        await world.waiting(4)
        assert len(world.loads) == 1
        name = next(iter(world.loads))
        world.loaded(name)
    assert {one.result() for one in asked} == {name}


async def test_a_load_goes_on_when_the_one_who_asked_for_it_leaves() -> None:
    world = World("a", models=())
    async with running(world) as tasks:
        asked = tasks.create_task(world.ask())
        await world.waiting(1)
        asked.cancel()
        await world.waiting(0)
    assert world.loads["a"].model == M


async def test_a_cancelled_waiter_leaves_the_line_at_once_and_its_turn_goes_to_the_next() -> None:
    world = World("a")
    async with running(world) as tasks, world.dispatcher.lease(RUN):
        first = tasks.create_task(world.ask())
        await world.waiting(1)
        second = tasks.create_task(world.ask())
        await world.waiting(2)
        first.cancel()
        await world.waiting(1)
    assert second.result() == "a"
    assert world.dispatcher.total_in_flight == 0


async def test_a_lease_granted_in_the_moment_that_its_client_leaves_is_given_back() -> None:
    world = World("a")
    async with running(world) as tasks:
        holding = world.dispatcher.lease(RUN)
        await holding.__aenter__()
        asked = tasks.create_task(world.ask())
        await world.waiting(1)
        await holding.__aexit__(None, None, None)
        while not world.dispatcher.in_flight("a"):
            await asyncio.sleep(0)
        asked.cancel()
    assert world.dispatcher.total_in_flight == 0


async def test_what_needs_no_slot_waits_for_none() -> None:
    world = World("a")
    async with world.dispatcher.lease(RUN), asyncio.timeout(5), world.dispatcher.lease(ANY) as lease:
        assert (lease.child, lease.model) == ("a", None)


async def test_a_client_with_many_in_line_does_not_keep_another_waiting_for_them() -> None:
    world = World("a", limits=Limits(100, 60.0, 60.0))
    served: list[str] = []

    async def ask(client: str) -> None:
        async with world.dispatcher.lease(replace(RUN, client=client)):
            served.append(client)

    async with running(world) as tasks, world.dispatcher.lease(RUN):
        for _ in range(20):
            tasks.create_task(ask("greedy"))
        await world.waiting(20)
        tasks.create_task(ask("modest"))
        await world.waiting(21)
    assert served.index("modest") <= 1


async def test_embeddings_go_before_generations_that_wait_for_the_same_model() -> None:
    world = World("a")
    order: list[str] = []

    async def ask(request: Request, name: str) -> None:
        async with world.dispatcher.lease(request):
            order.append(name)

    async with running(world) as tasks, world.dispatcher.lease(RUN):
        tasks.create_task(ask(RUN, "generation"))
        await world.waiting(1)
        tasks.create_task(ask(EMBED, "embedding"))
        await world.waiting(2)
    assert order == ["embedding", "generation"]


async def test_a_request_that_waited_its_time_for_a_slot_is_told_when_to_come_back() -> None:
    world = World("a", limits=Limits(10, 60.0, 0.01))
    async with world.dispatcher.lease(RUN):
        with pytest.raises(CapacityError, match=r"no slot for m:latest came free in 0\.01 s") as refused:
            await world.ask()
    assert refused.value.retry_after_s >= 1


async def test_a_client_s_own_deadline_goes_before_the_configured_one() -> None:
    world = World("a")
    async with world.dispatcher.lease(RUN):
        with pytest.raises(CapacityError, match=r"came free in 0\.02 s"):
            await world.ask(replace(RUN, patience_s=0.02))


async def test_a_deadline_that_is_known_to_be_hopeless_is_refused_at_once() -> None:
    world = World("a")
    for _ in range(20):
        world.memory.knowledge.learn(What.SERVICE_S, M, "cpu", 100.0)
    async with world.dispatcher.lease(RUN):
        with pytest.raises(CapacityError, match="longer than the 30 s") as refused:
            await world.ask(replace(RUN, patience_s=30.0))
    assert refused.value.retry_after_s > 30


async def test_a_request_waits_for_a_child_to_become_ready() -> None:
    world = World("a")
    world.set("a", Phase.STARTING)
    async with running(world) as tasks:
        asked = tasks.create_task(world.ask())
        await world.waiting(1)
        world.set("a", Phase.READY)
    assert (asked.result(), world.dispatcher.waiting) == ("a", 0)


@pytest.mark.parametrize("wanted", [RUN, ANY])
async def test_a_request_that_waits_in_vain_is_told_what_the_children_are_doing(wanted: Request) -> None:
    world = World("a", limits=Limits(10, 0.01, 60.0))
    world.set("a", Phase.BACKOFF)
    with pytest.raises(CapacityError, match="a backoff") as refused:
        await world.ask(wanted)
    assert refused.value.retry_after_s > 0


@pytest.mark.parametrize("wanted", [RUN, ANY])
async def test_a_request_that_may_not_wait_for_a_child_is_refused_at_once(wanted: Request) -> None:
    world = World("a")
    world.set("a", Phase.STARTING)
    with pytest.raises(CapacityError, match="no child can take"):
        async with world.dispatcher.lease(wanted, wait=False):
            pass


async def test_a_request_that_failed_everywhere_is_not_kept_waiting() -> None:
    world = World("a")
    with pytest.raises(CapacityError, match="no child can take"):
        async with world.dispatcher.lease(replace(RUN, tried=frozenset({("a", 1)})), wait=False):
            pass


@pytest.mark.parametrize("wanted", [RUN, ANY])
async def test_one_more_than_may_wait_is_refused(wanted: Request) -> None:
    world = World("a", limits=Limits(1, 60.0, 60.0))
    world.set("a", Phase.STARTING)
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(world.ask())
        await world.waiting(1)
        with pytest.raises(CapacityError, match="1 requests wait"):
            await world.ask(wanted)
        first.cancel()
    assert world.dispatcher.waiting == 0


@pytest.mark.parametrize("wanted", [RUN, ANY])
async def test_a_stopping_daemon_gives_no_lease_and_sends_the_waiting_home(wanted: Request) -> None:
    world = World("a")
    world.set("a", Phase.STARTING)

    async def ask() -> None:
        with pytest.raises(CapacityError, match="stopping"):
            await world.ask(wanted)

    async with running(world) as tasks:
        tasks.create_task(ask())
        await world.waiting(1)
        world.refusing = True
        world.changed.ring()


async def test_a_lease_says_why_its_child_was_chosen() -> None:
    async with World("a").dispatcher.lease(RUN) as lease:
        assert lease.reason.startswith("has the model and a free slot; ready, ")


@pytest.mark.parametrize("requests", [40, 400])
async def test_a_long_line_costs_each_request_no_more_looks_at_the_fleet_than_a_short_one(requests: int) -> None:
    world = World("a", "b", slots=4, limits=Limits(10_000, 60.0, 60.0))
    async with running(world) as tasks:
        for number in range(requests):
            tasks.create_task(world.ask(replace(RUN, client=str(number % 7))))
    assert world.looks <= 8 * requests


async def test_a_request_too_many_is_refused_at_the_cost_of_two_looks_and_begins_no_load() -> None:
    world = World("a", limits=Limits(1, 60.0, 60.0))
    async with running(world) as tasks, world.dispatcher.lease(RUN):
        tasks.create_task(world.ask())
        await world.waiting(1)
        before = world.looks
        with pytest.raises(CapacityError, match="1 requests wait"):
            await world.ask(replace(RUN, model="rare:latest"))
        assert world.looks - before <= 2
        assert not world.loads
