"""The scheduler, on a clock that a test moves."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import pytest

from ollamad.sim.clock import Timer
from ollamad.sim.faults import Fault, Faults
from ollamad.sim.golang import NS
from ollamad.sim.model import Model, read_model
from ollamad.sim.models import Shape, write_model
from ollamad.sim.names import parse
from ollamad.sim.recital import Done, recital
from ollamad.sim.runner import Runner, RunnerDied
from ollamad.sim.scheduler import LoadFailed, QueueFull, Scheduler
from ollamad.sim.settings import GIB, Settings
from ollamad.sim.store import Store
from ollamad.sim.timing import Timing

SETTLE = 20
"""How often the loop goes round until everything that can happen now has."""


class Alarm:
    def __init__(self, act: Callable[[], None]) -> None:
        self.act: Callable[[], None] | None = act

    def cancel(self) -> None:
        self.act = None


class HandClock:
    """Time passes when the test says so."""

    def __init__(self) -> None:
        self._now_s = 0.0
        self._order = count()
        self._alarms: list[tuple[float, int, Alarm]] = []

    def now_s(self) -> float:
        return self._now_s

    async def sleep(self, length_s: float) -> None:
        woken = asyncio.Event()
        self.call_later(length_s, woken.set)
        await woken.wait()

    def call_later(self, length_s: float, act: Callable[[], None]) -> Timer:
        alarm = Alarm(act)
        heapq.heappush(self._alarms, (self._now_s + length_s, next(self._order), alarm))
        return alarm

    async def advance(self, length_s: float) -> None:
        until_s = self._now_s + length_s
        await self._settle()
        while self._alarms and self._alarms[0][0] <= until_s:
            self._now_s, _, alarm = heapq.heappop(self._alarms)
            if alarm.act is not None:
                alarm.act()
            await self._settle()
        self._now_s = until_s

    async def _settle(self) -> None:
        for _ in range(SETTLE):
            await asyncio.sleep(0)


class Bench:
    """A scheduler over some models of 8 GiB on a GPU of 24."""

    def __init__(self, folder: Path, *, parallel: int = 1, max_queue: int = 512, runners: bool = False) -> None:
        self.clock = HandClock()
        self.faults = Faults()
        store = Store(folder)
        for name in "abc":
            write_model(store, name, Shape(8 * GIB, layers=1))
        self.models = {name: read_model(store, parse(name)) for name in "abc"}
        timing = Timing(load_fixed_s=1.0, prefill_tokens_per_s=10.0, decode_fixed_s=1.0, decode_per_stream_s=1.0)
        settings = Settings(
            store=folder,
            num_parallel=parallel,
            max_queue=max_queue,
            devices=("GPU-0",),
            timing=timing,
            runners=runners,
        )
        self.scheduler = Scheduler(settings, self.clock, self.faults)

    def model(self, name: str) -> Model:
        return self.models[name]

    @property
    def loaded(self) -> list[str]:
        return [runner.model.name.model for runner in self.scheduler.runners]


class Use:
    """A request that holds its runner until it is told to let go."""

    def __init__(self) -> None:
        self.runner: Runner | None = None
        self.done = asyncio.Event()


@asynccontextmanager
async def using(bench: Bench, tasks: asyncio.TaskGroup) -> AsyncIterator[Callable[..., Use]]:
    """Starts requests; lets go of all of them at the end."""
    uses: list[Use] = []

    async def held(use: Use, name: str, keep_alive_s: float | None, options: dict[str, int]) -> None:
        keep_alive_ns = None if keep_alive_s is None else round(keep_alive_s * NS)
        async with bench.scheduler.runner(bench.model(name), options, keep_alive_ns) as runner:
            use.runner = runner
            await use.done.wait()

    def start(name: str, keep_alive_s: float | None = None, **options: int) -> Use:
        use = Use()
        uses.append(use)
        tasks.create_task(held(use, name, keep_alive_s, options))
        return use

    yield start
    for use in uses:
        use.done.set()
    await bench.clock.advance(1000.0)
    bench.scheduler.end()


async def test_models_load_one_after_the_other(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    async with asyncio.TaskGroup() as tasks, using(bench, tasks) as use:
        first, second = use("a"), use("b")
        await bench.clock.advance(1.5)
        assert (first.runner is not None, second.runner is not None) == (True, False)
        await bench.clock.advance(1.0)
        assert second.runner is not None
        assert bench.scheduler.counts.loads == 2


async def test_many_for_one_model_share_one_load(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    async with asyncio.TaskGroup() as tasks, using(bench, tasks) as use:
        uses = [use("a") for _ in range(5)]
        await bench.clock.advance(1.0)
        assert len({id(each.runner) for each in uses}) == 1
        assert bench.scheduler.counts.loads == 1


async def test_a_loaded_model_serves_while_another_loads(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    async with asyncio.TaskGroup() as tasks, using(bench, tasks) as use:
        use("a")
        await bench.clock.advance(1.0)
        use("b")
        again = use("a")
        await bench.clock.advance(0.1)
        assert again.runner is not None


async def test_who_must_load_waits_behind_one_that_waits_for_room(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    async with asyncio.TaskGroup() as tasks, using(bench, tasks) as use:
        first, second = use("a", 5.0), use("b")
        await bench.clock.advance(2.0)
        assert (first.runner is not None, second.runner is not None) == (True, True)
        third = use("c")  # there is room for two, and both work
        other = use("a", num_ctx=64)  # and this one must load, too
        await bench.clock.advance(10.0)
        assert (third.runner, other.runner) == (None, None)
        first.done.set()
        await bench.clock.advance(1.0)
        assert third.runner is not None
        assert bench.loaded == ["b", "c"]
        second.done.set()
        third.done.set()
        await bench.clock.advance(2.0)
        assert other.runner is not None


async def test_the_idle_model_with_the_shortest_keep_alive_makes_room(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    async with asyncio.TaskGroup() as tasks, using(bench, tasks) as use:
        use("a", 60.0).done.set()
        use("b", 5.0).done.set()
        await bench.clock.advance(2.0)
        use("c")
        await bench.clock.advance(1.0)
        assert bench.loaded == ["a", "c"]


async def test_another_context_loads_the_model_anew(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    async with asyncio.TaskGroup() as tasks, using(bench, tasks) as use:
        use("a").done.set()
        await bench.clock.advance(1.0)
        second = use("a", num_ctx=64)
        await bench.clock.advance(1.0)
        assert second.runner is not None
        assert second.runner.load.context == 64
        assert (bench.loaded, bench.scheduler.counts.loads) == (["a"], 2)


async def test_a_keep_alive_is_kept_to_and_stays_for_requests_that_say_none(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    async with asyncio.TaskGroup() as tasks, using(bench, tasks) as use:
        use("a", 10.0).done.set()
        await bench.clock.advance(1.0 + 9.0)
        use("a").done.set()
        await bench.clock.advance(9.0)
        assert bench.loaded == ["a"]
        await bench.clock.advance(2.0)
        assert bench.loaded == []


async def test_a_model_told_to_go_goes_when_its_request_is_done(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    async with asyncio.TaskGroup() as tasks, using(bench, tasks) as use:
        busy = use("a")
        await bench.clock.advance(1.0)
        bench.scheduler.unload(bench.model("a"))
        await bench.clock.advance(1.0)
        assert bench.loaded == ["a"]
        busy.done.set()
        await bench.clock.advance(0.0)
        assert bench.loaded == []


async def test_who_leaves_while_it_loads_takes_the_load_with_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0), bench.scheduler.runner(bench.model("a"), {}, None):
            raise AssertionError
    async with asyncio.TaskGroup() as tasks, using(bench, tasks) as use:
        use("b")
        await bench.clock.advance(1.0)
        assert (bench.loaded, bench.scheduler.counts.loads, bench.scheduler.waiting) == (["b"], 1, 0)


async def test_too_many_that_wait_are_refused(tmp_path: Path) -> None:
    bench = Bench(tmp_path, max_queue=1)
    async with asyncio.TaskGroup() as tasks, using(bench, tasks) as use:
        use("a")
        await bench.clock.advance(0.5)
        with pytest.raises(QueueFull):
            async with bench.scheduler.runner(bench.model("b"), {}, None):
                raise AssertionError


async def test_a_load_that_fails_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.faults.set(Fault.FAIL_LOAD)
    with pytest.raises(LoadFailed, match="exit status 2"):
        async with bench.scheduler.runner(bench.model("a"), {}, None):
            raise AssertionError
    assert bench.loaded == []


async def test_a_model_stuck_in_stopping_holds_up_whoever_needs_its_place(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    async with asyncio.TaskGroup() as tasks, using(bench, tasks) as use:
        use("a").done.set()
        use("b").done.set()
        await bench.clock.advance(2.0)
        bench.faults.set(Fault.STUCK)
        third = use("c")
        await bench.clock.advance(10.0)
        assert third.runner is None
        assert bench.loaded == ["a", "b"]
        bench.faults.clear()
        bench.scheduler.faults_changed()
        await bench.clock.advance(1.0)
        assert third.runner is not None


async def test_a_prompt_that_a_slot_holds_is_not_worked_on_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    async with asyncio.TaskGroup() as tasks, using(bench, tasks) as use:
        held = use("a")
        await bench.clock.advance(1.0)
        runner = held.runner
        assert runner is not None
        times = []

        async def ask(prompt: list[int]) -> None:
            began_s = bench.clock.now_s()
            async with runner.prefilled(prompt):
                times.append(bench.clock.now_s() - began_s)

        for prompt in ([1] * 100, [1] * 100 + [2] * 50, [3] * 10):
            tasks.create_task(ask(prompt))
            await bench.clock.advance(100.0)
        assert times == pytest.approx([10.0, 5.0, 1.0])


async def test_a_step_takes_longer_the_more_streams_share_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path, parallel=2)
    async with asyncio.TaskGroup() as tasks, using(bench, tasks) as use:
        held = use("a")
        await bench.clock.advance(1.0)
        runner = held.runner
        assert runner is not None
        ends = []

        async def stream() -> None:
            async with runner.prefilled([]):
                async for _ in runner.recite(recital((), 3, (), Done.LENGTH)):
                    pass
                ends.append(bench.clock.now_s())

        began_s = bench.clock.now_s()
        tasks.create_task(stream())
        tasks.create_task(stream())
        await bench.clock.advance(100.0)
        assert [end_s - began_s for end_s in ends] == [8.0, 9.0], "1 + 2 * 1 s a step, but for the one begun alone"


async def test_a_runner_that_hangs_gives_no_token_until_it_is_killed(tmp_path: Path) -> None:
    bench = Bench(tmp_path, runners=True)
    async with asyncio.TaskGroup() as tasks, using(bench, tasks) as use:
        held = use("a")
        await bench.clock.advance(1.0)
        runner = held.runner
        assert runner is not None
        bench.scheduler.hang()
        outcome: list[str] = []

        async def stream() -> None:
            try:
                outcome.extend([piece.text async for piece in runner.recite(recital((), 3, (), Done.LENGTH))])
            except RunnerDied:
                outcome.append("died")

        tasks.create_task(stream())
        await bench.clock.advance(10.0)
        assert outcome == []
        runner.kill()
        await bench.clock.advance(1.0)
        assert outcome == ["died"]
        again = use("a")
        await bench.clock.advance(1.0)
        assert again.runner is not None
        assert again.runner is not runner
