from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from ollamad.errors import NoAnswer, StoreError
from ollamad.fleet.bell import Bell
from ollamad.fleet.changes import Changes, pinned
from ollamad.fleet.dispatcher import Lease
from ollamad.routing.decide import Request
from ollamad.routing.snapshot import ChildView, Snapshot
from ollamad.supervision.state import Phase, Want
from tests.support.scene import plain_dispatcher


class World:
    """A fleet whose children's phases the test sets by hand; leases are the real ones."""

    def __init__(self, *children: str) -> None:
        self.changed = Bell()
        self.phases = dict.fromkeys(children, Phase.READY)
        self.failures: list[str] = []
        self.leases = 0
        self._dispatcher = plain_dispatcher(self.changed, self.snapshot)

    def snapshot(self) -> Snapshot:
        views = [
            ChildView(name, Want.UP, phase, trusted=True, in_flight=0, life=1, port=1)
            for name, phase in self.phases.items()
        ]
        return Snapshot(0.0, tuple(views))

    @asynccontextmanager
    async def lease(self, request: Request, *, wait: bool = True) -> AsyncIterator[Lease]:
        async with self._dispatcher.lease(request, wait=wait) as lease:
            self.leases += 1
            yield lease

    def failed(self, lease: Lease) -> None:
        self.failures.append(lease.child)

    def loaded(self, lease: Lease) -> None:
        raise AssertionError(lease)

    def set(self, name: str, phase: Phase) -> None:
        self.phases[name] = phase
        self.changed.ring()


async def settle() -> None:
    """Let every task run until it waits for something."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_one_model_is_changed_by_one_at_a_time_and_others_meanwhile() -> None:
    changes = Changes(World("a"), one_store=True)
    entered: list[str] = []

    async def change(who: str, key: str, until: asyncio.Event) -> None:
        async with changes.holding(key):
            entered.append(who)
            await until.wait()

    first, rest = asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(change("first", "m", first))
        tasks.create_task(change("second", "m", rest))
        tasks.create_task(change("other", "n", rest))
        await settle()
        assert (entered, changes.running, changes.is_held("m")) == (["first", "other"], 2, True)
        first.set()
        await settle()
        assert entered[-1] == "second"
        rest.set()
    assert (changes.running, changes.is_held("m")) == (0, False)


async def test_changes_of_two_models_in_any_order_never_block_each_other() -> None:
    changes = Changes(World("a"), one_store=True)

    async def copy(*keys: str) -> None:
        for _ in range(20):
            async with changes.holding(*keys):
                await asyncio.sleep(0)

    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        tasks.create_task(copy("a", "b"))
        tasks.create_task(copy("b", "a"))
        tasks.create_task(copy("b", "b"))


async def test_a_prune_is_refused_while_anything_is_changed_and_changes_wait_for_its_end() -> None:
    changes = Changes(World("a"), one_store=True)
    async with changes.holding("m"):
        with pytest.raises(StoreError, match="1 changes of models are under way"):
            async with changes.alone():
                pass
    entered = asyncio.Event()

    async def change() -> None:
        async with changes.holding("m"):
            entered.set()

    async with asyncio.TaskGroup() as tasks:
        async with changes.alone():
            tasks.create_task(change())
            await settle()
            assert not entered.is_set()
            with pytest.raises(StoreError):
                async with changes.alone():
                    pass
        await entered.wait()


async def test_while_a_shared_store_is_changed_through_one_child_the_next_change_goes_there_too() -> None:
    world = World("a", "b")
    world.set("a", Phase.STARTING)
    changes = Changes(world, one_store=True)
    async with changes.child() as long:
        assert long.child == "b"
        world.set("a", Phase.READY)
        async with changes.child() as other:
            assert other.child == "b"
    async with changes.child() as later:
        assert later.child == "a"


async def test_where_the_child_of_the_changes_under_way_is_gone_the_next_waits_for_their_end() -> None:
    world = World("a", "b")
    changes = Changes(world, one_store=True)
    got: list[str] = []

    async def change() -> None:
        async with changes.child() as lease:
            got.append(lease.child)

    async with asyncio.TaskGroup() as tasks, changes.child():
        world.set("a", Phase.BACKOFF)
        tasks.create_task(change())
        await settle()
        assert got == []
    assert got == ["b"]


async def test_changes_that_wait_for_the_end_of_another_do_not_wake_each_other() -> None:
    world = World("a", "b")
    changes = Changes(world, one_store=True)

    async def change() -> None:
        async with changes.child():
            pass

    async with asyncio.TaskGroup() as tasks, changes.child():
        world.set("a", Phase.DRAINING)
        for _ in range(3):
            tasks.create_task(change())
        await settle()
        before = world.leases
        for _ in range(10):
            await settle()
        assert world.leases == before, "each lease that comes back wakes all who wait"
    assert world.leases == before + 3


async def test_with_stores_of_their_own_children_change_at_the_same_time() -> None:
    world = World("a", "b")
    changes = Changes(world, one_store=False)
    async with changes.child() as first:
        world.set("a", Phase.BACKOFF)
        async with changes.child() as second:
            assert (first.child, second.child) == ("a", "b")


async def test_a_child_that_fails_under_a_change_is_told_of() -> None:
    world = World("a")
    changes = Changes(world, one_store=True)
    with pytest.raises(NoAnswer):
        async with changes.child():
            raise NoAnswer("it is gone")
    assert world.failures == ["a"]


def test_a_pinned_request_names_all_others_as_tried() -> None:
    assert pinned("b", World("a", "b", "c").snapshot()).tried == {("a", 1), ("c", 1)}
