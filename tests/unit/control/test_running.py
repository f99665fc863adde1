"""Operations that take long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from ollamad.control.operations import Tell
from ollamad.control.running import Operation, Running, State, Work
from ollamad.errors import ConfigError, OperationFailed, Problem
from ollamad.fleet.tape import Missed


@asynccontextmanager
async def running(operations_kept: int = 4, progress_kept: int = 100) -> AsyncIterator[Running]:
    all_of_them = Running(operations_kept=operations_kept, progress_kept=progress_kept)
    async with asyncio.TaskGroup() as tasks:
        owner = tasks.create_task(all_of_them.run())
        await asyncio.sleep(0)
        yield all_of_them
        owner.cancel()
        with suppress(asyncio.CancelledError):
            await owner


async def told_by(operation: Operation) -> list[object]:
    return [step if isinstance(step, Missed) else step.facts["n"] async for step in operation.steps.read()]


def telling(count: int, gate: asyncio.Event | None = None) -> Work:
    async def work(tell: Tell) -> None:
        for number in range(count):
            tell({"n": number})
        if gate is not None:
            await gate.wait()
            tell({"n": "after"})

    return work


async def test_followers_early_late_and_last_see_every_step_in_order() -> None:
    gate = asyncio.Event()
    async with running() as all_of_them, asyncio.TaskGroup() as tasks:
        operation = all_of_them.start("sync", telling(3, gate), 0)
        early = tasks.create_task(told_by(operation))
        await asyncio.sleep(0.01)
        late = tasks.create_task(told_by(operation))
        await asyncio.sleep(0.01)
        gate.set()
        assert await early == await late == await told_by(operation) == [0, 1, 2, "after"]
        assert operation.state is State.DONE


async def test_a_second_of_its_kind_is_refused_with_the_firsts_id_while_it_runs() -> None:
    gate = asyncio.Event()
    async with running() as all_of_them:
        first = all_of_them.start("restart", telling(0, gate), 0)
        with pytest.raises(OperationFailed, match=f"restart runs already; .* operations {first.id} --follow"):
            all_of_them.start("restart", telling(0), 0)
        other = all_of_them.start("reload", telling(1), 0)
        gate.set()
        await told_by(first)
        assert all_of_them.start("restart", telling(0), 0).id not in {first.id, other.id}


async def test_how_it_failed_is_kept() -> None:
    async def refused(_tell: Tell) -> None:
        raise OperationFailed("not now")

    async def misconfigured(_tell: Tell) -> None:
        raise ConfigError((Problem("proxy.listen", "is wrong"), Problem("log", "too")))

    async def broken(_tell: Tell) -> None:
        raise ZeroDivisionError("a secret")

    async with running() as all_of_them:
        found = [all_of_them.start(work.__name__, work, 7) for work in (refused, misconfigured, broken)]
        for operation in found:
            await told_by(operation)
        summaries = [operation.summary() for operation in found]
    assert [one["state"] for one in summaries] == ["failed"] * 3
    assert [one["error"] for one in summaries] == [
        "not now",
        "the configuration has problems",
        "a fault of ollamad's own; its log has the details",
    ]
    assert summaries[1]["problems"] == ["proxy.listen: is wrong", "log: too"]
    assert summaries[0]["uid"] == 7


async def test_at_the_end_of_the_daemon_what_runs_is_cancelled_and_says_so() -> None:
    async with running() as all_of_them:
        operation = all_of_them.start("restart", telling(1, asyncio.Event()), 0)
        await asyncio.sleep(0.01)
    assert operation.state is State.CANCELLED
    assert await told_by(operation) == [0]
    with pytest.raises(OperationFailed, match="stopping"):
        all_of_them.start("restart", telling(1), 0)


async def test_only_so_much_is_kept() -> None:
    async with running(operations_kept=2, progress_kept=10) as all_of_them:
        found = []
        for number in range(4):
            found.append(all_of_them.start(f"kind{number}", telling(25), 0))
            await told_by(found[-1])
        assert [one.id for one in all_of_them.all()] == [one.id for one in found[1:]]
        assert all_of_them.get(found[0].id) is None
        assert await told_by(found[-1]) == [Missed(15), *range(15, 25)]
