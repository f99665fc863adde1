from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from ollamad.config.schema import Gpus
from ollamad.errors import GpuError, GpuSilent
from ollamad.fleet.telemetry import Telemetry
from ollamad.gpu.model import Gpu, Inventory, Sample
from ollamad.supervision.freeing import Freed
from ollamad.supervision.gpu_health import GpuEvent, GpuEventKind, Health, HealthPolicy, Verdict
from ollamad.supervision.pinning import GIB, GpuProcess

A, B, C = (Gpu(index, f"GPU-{index}", "NVIDIA H100", 80 * GIB) for index in range(3))
PATIENCE_S = 30.0
FOREVER = HealthPolicy(unanswered_max_s=0.0, recover_after_s=3600.0)
AT_ONCE = HealthPolicy(unanswered_max_s=0.0, recover_after_s=0.0, recover_max_s=0.0)


class Driver:
    """A `Sampler` that says what a test tells it to, and counts what it is asked."""

    def __init__(self, *gpus: Gpu) -> None:
        self.gpus: tuple[Gpu, ...] = gpus
        self.problems: tuple[str, ...] = ()
        self.error: GpuError | None = None
        self.bad: dict[str, Sample] = {}
        self.used: dict[str, int] = {}
        self.busy_percent = 0
        self.processes: dict[str, tuple[GpuProcess, ...] | None] = {}
        self.reported: list[GpuEvent] = []
        self.rounds = 0
        self.looks = 0
        self.asked: tuple[str, ...] = ()

    async def discover(self) -> Inventory:
        self.looks += 1
        if self.error is not None:
            raise self.error
        return Inventory(self.gpus, "570", self.problems)

    async def sample(self, uuids: tuple[str, ...]) -> tuple[Sample, ...]:
        self.rounds += 1
        self.asked = uuids
        if self.error is not None:
            raise self.error
        return tuple(self.bad.get(uuid) or self._sample(uuid) for uuid in uuids)

    def take_events(self) -> tuple[GpuEvent, ...]:
        events, self.reported = tuple(self.reported), []
        return events

    def _sample(self, uuid: str) -> Sample:
        return Sample(
            uuid,
            time.monotonic(),
            memory_used_bytes=self.used.get(uuid, 0),
            utilization_percent=self.busy_percent,
            power_w=70.0,
            throttle_reasons=("heat",),
            processes=self.processes.get(uuid, ()),
        )


class Watched:
    """A telemetry that runs, and the verdicts it told."""

    def __init__(self, driver: Driver, gpus: Iterable[Gpu], policy: HealthPolicy, rediscover_s: float) -> None:
        self.driver = driver
        self.told: list[tuple[str, Health]] = []
        self.telemetry = Telemetry(
            driver, tuple(gpus), 0.001, policy=policy, rediscover_interval_s=rediscover_s, on_verdict=self._hear
        )

    def _hear(self, uuid: str, verdict: Verdict) -> None:
        self.told.append((uuid, verdict.health))

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                await asyncio.sleep(0.001)

    async def rounds(self, count: int = 2) -> None:
        """Until so many whole rounds began after now."""
        end = self.driver.rounds + count
        await self.until(lambda: self.driver.rounds > end)


@asynccontextmanager
async def watching(
    driver: Driver, *gpus: Gpu, policy: HealthPolicy = FOREVER, rediscover_s: float = 0.001
) -> AsyncIterator[Watched]:
    watched = Watched(driver, gpus, policy, rediscover_s)
    async with asyncio.TaskGroup() as tasks:
        run = tasks.create_task(watched.telemetry.run())
        yield watched
        run.cancel()


async def test_all_gpus_of_the_machine_are_sampled_also_those_without_a_child() -> None:
    driver = Driver(A, B)
    driver.processes[B.uuid] = (GpuProcess(7, 1),)
    async with watching(driver, A) as watched:
        await watched.rounds()
        assert driver.asked == (A.uuid, B.uuid)
        assert watched.telemetry.gpus == (A, B)
        assert watched.telemetry.listed() == {A.uuid: (), B.uuid: (GpuProcess(7, 1),)}


async def test_a_view_has_what_the_last_sample_said() -> None:
    driver = Driver(A)
    driver.used[A.uuid] = GIB
    async with watching(driver, A) as watched:
        await watched.rounds()
        view = watched.telemetry.view(A)
        assert (view.memory_used_bytes, view.power_w, view.throttled) == (GIB, 70.0, True)
        assert (view.quarantined, view.error) == (None, None)


async def test_smoothed_utilization_follows_slowly() -> None:
    driver = Driver(A)
    async with watching(driver, A) as watched:
        await watched.rounds()
        driver.busy_percent = 100
        await watched.rounds()
        view = watched.telemetry.view(A)
        assert view.utilization_percent == 100
        assert view.utilization_smoothed_percent is not None
        assert view.utilization_smoothed_percent < 100


async def test_an_xid_quarantines_its_own_gpu_is_told_once_and_the_other_goes_on() -> None:
    driver = Driver(A, B)
    async with watching(driver, A, B) as watched:
        await watched.rounds()
        driver.reported = [GpuEvent(A.uuid, GpuEventKind.XID, "Xid 79: off the bus", 79)]
        await watched.until(lambda: watched.told)
        await watched.rounds()
        assert watched.told == [(A.uuid, Health.QUARANTINED)]
        assert watched.telemetry.view(A).quarantined == "Xid 79: off the bus"
        assert watched.telemetry.view(B).quarantined is None
        assert [one.event.xid for one in watched.telemetry.events] == [79]


async def test_a_lost_gpu_is_quarantined_and_comes_back_by_itself() -> None:
    driver = Driver(A)
    driver.bad[A.uuid] = Sample(A.uuid, 0.0, error="GPU is lost", fault=GpuEventKind.LOST)
    async with watching(driver, A, policy=AT_ONCE) as watched:
        await watched.until(lambda: watched.told)
        assert (watched.telemetry.view(A).error, watched.telemetry.processes(A.uuid)) == ("GPU is lost", None)
        await watched.rounds(5)
        assert len(watched.telemetry.events) == 1, "what lasts is remembered once"
        driver.bad.clear()
        await watched.until(lambda: len(watched.told) > 1)
        assert watched.told == [(A.uuid, Health.QUARANTINED), (A.uuid, Health.HEALTHY)]
        assert watched.telemetry.processes(A.uuid) == ()


async def test_a_driver_that_hangs_on_one_gpu_costs_that_one_alone() -> None:
    driver = Driver(A, B)
    async with watching(driver, A, B) as watched:
        await watched.rounds()
        driver.error = GpuSilent("has not answered", A.uuid)
        await watched.until(lambda: (A.uuid, Health.QUARANTINED) in watched.told)
        assert watched.telemetry.health(B.uuid) == Verdict()
        assert watched.telemetry.view(B).error == "has not answered", "its readings are old, and say so"
        assert watched.telemetry.listed() == {A.uuid: None, B.uuid: None}, "old lists prove nothing"


@pytest.mark.parametrize("error", [GpuSilent("hangs in no GPU", None), GpuError("no driver"), GpuSilent("?", "GPU-9")])
async def test_a_driver_that_fails_as_a_whole_makes_suspects_only(error: GpuError) -> None:
    driver = Driver(A, B)
    async with watching(driver, A, B) as watched:
        await watched.rounds()
        driver.error = error
        await watched.until(lambda: len(watched.told) > 1)
        await watched.rounds()
        assert sorted(watched.told, key=str) == [(A.uuid, Health.SUSPECT), (B.uuid, Health.SUSPECT)]


async def test_a_gpu_that_is_not_listed_any_more_is_quarantined_until_it_is_back() -> None:
    driver = Driver(A, B)
    async with watching(driver, A, B, policy=AT_ONCE) as watched:
        await watched.rounds()
        driver.gpus = (B,)
        driver.bad[A.uuid] = Sample(A.uuid, 0.0, error="Not Found", fault=GpuEventKind.UNANSWERED)
        await watched.until(lambda: watched.telemetry.view(A).quarantined)
        await watched.until(lambda: any(one.event.kind is GpuEventKind.GONE for one in watched.telemetry.events))
        assert watched.telemetry.gpus == (A, B), "one with a child is not forgotten"
        driver.gpus = (A, B)
        driver.bad.clear()
        await watched.until(lambda: watched.telemetry.health(A.uuid) == Verdict())
        assert (B.uuid, Health.QUARANTINED) not in watched.told


async def test_while_a_gpu_cant_be_opened_none_is_taken_for_gone() -> None:
    driver = Driver(A, B)
    async with watching(driver, A, B) as watched:
        await watched.rounds()
        driver.gpus, driver.problems = (B,), ("GPU 0 can't be used: GPU is lost",)
        looks = driver.looks
        await watched.until(lambda: driver.looks > looks + 2)
        assert watched.told == []


async def test_a_gpu_that_appears_is_told_once_and_watched_and_forgotten_when_it_goes() -> None:
    driver = Driver(A)
    with capture_logs() as logs:
        async with watching(driver, A) as watched:
            await watched.rounds()
            driver.gpus = (A, C)
            await watched.until(lambda: driver.asked == (A.uuid, C.uuid))
            await watched.rounds()
            driver.gpus = (A,)
            await watched.until(lambda: driver.asked == (A.uuid,))
    assert [entry["gpu"] for entry in logs if entry["event"] == "gpu appeared"] == [C.uuid]


async def test_which_gpus_there_are_is_asked_seldom_while_all_are_well() -> None:
    driver = Driver(A)
    async with watching(driver, A, rediscover_s=3600.0) as watched:
        await watched.rounds(20)
        assert driver.looks == 1


async def test_a_machine_without_a_gpu_is_only_looked_at() -> None:
    driver = Driver()
    async with watching(driver) as watched:
        await watched.until(lambda: driver.looks > 2)
        assert driver.rounds == 0
        assert watched.telemetry.gpus == ()


async def test_whoever_listens_later_hears_at_once_what_is_not_healthy() -> None:
    driver = Driver(A, B)
    driver.bad[A.uuid] = Sample(A.uuid, 0.0, error="GPU is lost", fault=GpuEventKind.LOST)
    heard: list[str] = []
    async with watching(driver, A, B) as watched:
        await watched.until(lambda: watched.told)
        watched.telemetry.tell(lambda uuid, verdict: heard.append(f"{uuid} {verdict.health.value}"))
        assert heard == ["GPU-0 quarantined"]


async def test_a_dead_childs_vram_is_waited_for_until_it_has_left_the_list() -> None:
    driver = Driver(A, B)
    driver.processes[A.uuid] = (GpuProcess(101, GIB),)
    async with watching(driver, A, B) as watched:
        await watched.rounds()
        held = watched.telemetry.hold([A], frozenset({100, 101}), GIB)
        assert held.was_listed
        assert await watched.telemetry.freed(held, timeout_s=0.01) is Freed.NOT_YET
        async with asyncio.TaskGroup() as tasks:
            freed = tasks.create_task(watched.telemetry.freed(held, timeout_s=PATIENCE_S))
            await watched.rounds()
            assert not freed.done()
            driver.processes.clear()
        assert freed.result() is Freed.YES


async def test_waiting_for_vram_hurries_the_next_sample() -> None:
    driver = Driver(A)
    telemetry = Telemetry(driver, [A], interval_s=3600.0)
    async with asyncio.TaskGroup() as tasks:
        run = tasks.create_task(telemetry.run())
        async with asyncio.timeout(PATIENCE_S):
            while telemetry.view(A).sampled_at_s is None:
                await asyncio.sleep(0.001)
            held = telemetry.hold([A], frozenset({100}), 0)
            assert await telemetry.freed(held, timeout_s=PATIENCE_S) is Freed.YES
        run.cancel()


async def test_a_child_without_gpus_holds_nothing() -> None:
    telemetry = Telemetry(Driver(), [], interval_s=3600.0)
    assert await telemetry.freed(telemetry.hold([], frozenset({100}), None), timeout_s=PATIENCE_S) is Freed.YES


async def test_how_patient_it_is_comes_from_the_configuration() -> None:
    driver = Driver(A)
    driver.bad[A.uuid] = Sample(A.uuid, 0.0, error="Unknown Error", fault=GpuEventKind.UNANSWERED)
    config = Gpus(sample_interval_s=0.001, rediscover_interval_s=0.001, unanswered_max_s=0.0, recover_after_s=0.0)
    telemetry = Telemetry.configured(driver, [A], config)
    told: list[Health] = []
    telemetry.tell(lambda _, verdict: told.append(verdict.health))
    async with asyncio.TaskGroup() as tasks:
        run = tasks.create_task(telemetry.run())
        async with asyncio.timeout(PATIENCE_S):
            while not told or driver.looks < 3:
                await asyncio.sleep(0.001)
            driver.bad.clear()
            while len(told) < 2:
                await asyncio.sleep(0.001)
        run.cancel()
    assert told == [Health.QUARANTINED, Health.HEALTHY]
