from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from ollamad.fleet.devices import Devices
from ollamad.fleet.telemetry import Telemetry
from ollamad.gpu.model import Gpu, Inventory, Sample
from ollamad.routing.snapshot import Resident
from ollamad.supervision.gpu_health import GpuEvent
from ollamad.supervision.pinning import GIB, GpuProcess, Proof

GPU = Gpu(0, "GPU-0", "NVIDIA H100", 80 * GIB)
LOADED = (Resident("m", GIB, GIB, None),)
STRANGER = GpuProcess(7, GIB)


class OneSample:
    """A sampler that has read the GPU once, with a stranger's process alone on it, or with another."""

    def __init__(self, process: GpuProcess = STRANGER) -> None:
        self.process = process

    async def discover(self) -> Inventory:
        return Inventory((GPU,), None)

    async def sample(self, uuids: tuple[str, ...]) -> tuple[Sample, ...]:
        return tuple(Sample(uuid, time.monotonic(), memory_used_bytes=GIB, processes=(self.process,)) for uuid in uuids)

    def take_events(self) -> tuple[GpuEvent, ...]:
        return ()


async def test_a_list_from_before_a_model_was_loaded_is_no_proof_that_its_runner_is_on_the_cpu() -> None:
    sampler = OneSample()
    telemetry = Telemetry(sampler, (GPU,), interval_s=3600.0)
    devices = Devices(telemetry, 3600.0)
    before_s = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(telemetry.run())
        while telemetry.view(GPU).sampled_at_s is None:
            await asyncio.sleep(0)
        old = devices.pinning((GPU,), frozenset({1}), LOADED, time.monotonic())
        new = devices.pinning((GPU,), frozenset({1}), LOADED, before_s)
        running.cancel()
    assert (old.proof, new.proof) == (Proof.UNPROVEN, Proof.ON_CPU)


@pytest.fixture
def server() -> Iterator[tuple[int, int]]:
    """A server in a group of its own and its runner, by number."""
    command = ["sh", "-c", "sleep infinity & echo $!; wait"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as running:
        assert running.stdout is not None
        yield running.pid, int(running.stdout.readline())
        os.killpg(running.pid, signal.SIGKILL)


async def test_a_runner_that_a_server_has_just_started_is_not_foreign(server: tuple[int, int]) -> None:
    pid, runner = server
    telemetry = Telemetry(OneSample(GpuProcess(runner, GIB)), (GPU,), interval_s=3600.0)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(telemetry.run())
        while telemetry.view(GPU).sampled_at_s is None:
            await asyncio.sleep(0)
        running.cancel()
    devices = Devices(telemetry, 3600.0)
    assert devices.foreign_bytes(GPU, frozenset({pid}), None) == 0
    assert devices.foreign_bytes(GPU, frozenset(), None) == GIB
