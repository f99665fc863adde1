"""Keeps the fake driver true: who is on which GPU, and with how much, as a real one would see it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

import psutil

from bench.soak.fleets import GIB, Fleet
from tests.support.daemon import runners_of
from tests.support.fake_nvml import FakeProcess

TICK_S: Final = 0.1
STRANGER: Final = 1
"""The pid of who holds foreign memory: one that is never ours."""


async def keep_driver(fleet: Fleet) -> None:
    """Until cancelled; a fleet without GPUs needs nothing."""
    while fleet.driver is not None:
        children = (await fleet.daemon.status())["children"]
        for gpu, child in enumerate(children):
            _keep(fleet, gpu, child["pid"], [model["vram_bytes"] or 0 for model in child["models"]])
        await asyncio.sleep(TICK_S)


def _keep(fleet: Fleet, gpu: int, pid: int | None, sizes: list[int]) -> None:
    assert fleet.driver is not None
    runners: list[psutil.Process] = []
    with suppress(psutil.Error):
        runners = runners_of(pid) if pid else []
    each = max(sizes, default=10 * GIB)
    processes = [FakeProcess(runner.pid, each) for runner in runners]
    if foreign := fleet.foreign.get(gpu):
        processes.append(FakeProcess(STRANGER, foreign))
    fleet.driver.set_processes(gpu, processes)
    fleet.driver.set_memory(gpu, used=min(24 * GIB, sum(process.used_bytes or 0 for process in processes)))
