"""GPUs of a make that ollamad does not know: a provider that a test made fills the seam, and the rest fits.

docs/EXTENDING.md leads here. What is asserted is what a new provider can count on: found, pinned, sampled, lost.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from ollamad.config.schema import Gpus, Ollama
from ollamad.fleet.discovery import discover
from ollamad.fleet.telemetry import Telemetry
from ollamad.gpu.model import Gpu, GpuProvider, Inventory, Sample
from ollamad.gpu.thread import GpuThread
from ollamad.ollama.environment import MAKES, Host, Placement, child_environment
from ollamad.supervision.gpu_health import GpuEvent, GpuEventKind, Health
from ollamad.supervision.pinning import GIB, GpuProcess

HOST = Host("i1", "/home/o", "/models", 8192)
CARD = Gpu(0, "GPU-4a1f0000deadbeef", "Radeon PRO W7900", 48 * GIB, pinned_by="ROCR_VISIBLE_DEVICES")
BESIDE = replace(CARD, index=1, uuid="GPU-4a1f0000cafe0000")


class Radeons:
    """A `GpuProvider` as small as one can be."""

    def __init__(self) -> None:
        self.busy_with: str | None = None
        self.lost: set[str] = set()

    def discover(self) -> Inventory:
        return Inventory((CARD, BESIDE), "amdgpu 6.12")

    def sample(self, uuids: tuple[str, ...]) -> tuple[Sample, ...]:
        return tuple(self._sample(uuid) for uuid in uuids)

    def events(self) -> tuple[GpuEvent, ...]:
        return ()

    def close(self) -> None:
        pass

    def _sample(self, uuid: str) -> Sample:
        if uuid in self.lost:
            return Sample(uuid, time.monotonic(), error="does not answer", fault=GpuEventKind.LOST)
        used, free = 4 * GIB, 44 * GIB
        return Sample(uuid, time.monotonic(), used, free, 7, processes=(GpuProcess(77, used),))


@pytest.fixture
def radeons() -> Radeons:
    return Radeons()


@pytest.fixture
async def thread(radeons: Radeons) -> AsyncIterator[GpuThread]:
    provider: GpuProvider = radeons  # what mypy holds it to
    made = GpuThread(provider)
    yield made
    made.close()


@pytest.mark.parametrize("groups", [(), ((0, 1),)], ids=["a child each", "a wide child"])
async def test_its_gpus_get_children_that_are_pinned_by_its_own_variable(
    thread: GpuThread, groups: tuple[tuple[int | str, ...], ...]
) -> None:
    plans, _ = await discover(Gpus(groups=groups), thread)
    found = [
        child_environment({}, Ollama(), HOST, Placement(plan.id, plan.uuids_by_variable, 11_500)) for plan in plans
    ]
    pinned = [{name: one[name] for name in MAKES if name in one} for one in found]
    uuids = [f"{CARD.uuid},{BESIDE.uuid}"] if groups else [CARD.uuid, BESIDE.uuid]
    assert pinned == [{"ROCR_VISIBLE_DEVICES": uuid} for uuid in uuids]


async def test_it_is_sampled_and_a_lost_gpu_of_it_is_quarantined(thread: GpuThread, radeons: Radeons) -> None:
    telemetry = Telemetry(thread, [CARD, BESIDE], interval_s=0.001)
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(telemetry.run())
        while telemetry.view(BESIDE).memory_used_bytes is None:
            await asyncio.sleep(0.001)
        assert telemetry.processes(CARD.uuid) == (GpuProcess(77, 4 * GIB),)
        radeons.lost.add(CARD.uuid)
        while telemetry.health(CARD.uuid).health is not Health.QUARANTINED:
            await asyncio.sleep(0.001)
        running.cancel()
    assert telemetry.health(BESIDE.uuid).health is Health.HEALTHY
