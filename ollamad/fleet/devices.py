"""What the children must know of their GPUs, put together from telemetry and from what the children have loaded."""

from __future__ import annotations

import os
import time
from typing import Final

import structlog

from ollamad.fleet.gpu_faults import OnVerdict
from ollamad.fleet.telemetry import Telemetry
from ollamad.gpu.model import Gpu
from ollamad.routing.snapshot import GpuView, Resident
from ollamad.supervision.freeing import Freed, Holding
from ollamad.supervision.gpu_health import Health, Verdict
from ollamad.supervision.pinning import Pinning, Proof, foreign_bytes, pinning
from ollamad.supervision.state import Quarantine, Release

log = structlog.get_logger()

IDLE_PERCENT: Final = 2.0
"""Smoothed utilization under which a GPU does nothing: one kernel now and then shows as less."""
FRESH_PERIODS: Final = 3.0
"""A sample older than this many sampling intervals tells nothing."""


class Devices:
    """All GPUs, as the children see them."""

    def __init__(self, telemetry: Telemetry, sample_interval_s: float) -> None:
        self._telemetry = telemetry
        self._sample_interval_s = sample_interval_s

    async def run(self) -> None:
        """Sample until cancelled."""
        await self._telemetry.run()

    def tell(self, on_verdict: OnVerdict) -> None:
        """Whom to tell when a GPU's health changes."""
        self._telemetry.tell(on_verdict)

    def pin(self, gpus: tuple[Gpu, ...]) -> None:
        """A child is to run on these."""
        self._telemetry.pin(gpus)

    def barred(self, gpu: Gpu) -> Quarantine | None:
        """What its child must be told; None where it may have one."""
        verdict = self._telemetry.health(gpu.uuid)
        if verdict.health is not Health.QUARANTINED:
            return None
        # What does not even answer can't finish anything; on the rest, streams may.
        return Quarantine(f"GPU {gpu.index}: {verdict.reason}", at_once=self._telemetry.view(gpu).error is not None)

    def news(self, gpus: tuple[Gpu, ...], uuid: str, verdict: Verdict) -> Quarantine | Release | None:
        """What a child on these must be told of a verdict on one GPU; None where it goes on as it is."""
        gpu = next((gpu for gpu in gpus if gpu.uuid == uuid), None)
        if gpu is None or verdict.health is Health.SUSPECT:
            return None
        barred = self.barred(gpu)
        return Release() if barred is None and not any(map(self.barred, gpus)) else barred

    @property
    def turned_s(self) -> float | None:
        """When a round of samples last ended, on the monotonic clock."""
        return self._telemetry.turned_s

    @property
    def gpus(self) -> tuple[Gpu, ...]:
        """All GPUs of the machine, by index."""
        return self._telemetry.gpus

    def view(self, gpu: Gpu) -> GpuView:
        """A GPU with its latest sample."""
        return self._telemetry.view(gpu)

    def busy(self, gpus: tuple[Gpu, ...]) -> bool | None:
        """Whether any of these GPUs has worked lately; None where nothing fresh tells."""
        oldest_s = time.monotonic() - FRESH_PERIODS * self._sample_interval_s
        views = [self._telemetry.view(gpu) for gpu in gpus]
        fresh = [
            view.utilization_smoothed_percent
            for view in views
            if view.utilization_smoothed_percent is not None and (view.sampled_at_s or 0.0) >= oldest_s
        ]
        return max(fresh) >= IDLE_PERCENT if fresh else None

    def pinning(
        self, gpus: tuple[Gpu, ...], members: frozenset[int], residents: tuple[Resident, ...], since_s: float
    ) -> Pinning:
        """Whether a child's processes are where they were pinned.

        `since_s` is when what it has loaded last changed: a list from before can't show a runner that came then.
        """
        found = pinning(members, [gpu.uuid for gpu in gpus], self._telemetry.listed(), residents)
        sampled_s = min((self._telemetry.view(gpu).sampled_at_s or 0.0 for gpu in gpus), default=since_s)
        if found.proof is Proof.ON_CPU and sampled_s < since_s:
            return Pinning(Proof.UNPROVEN, "its GPU was last looked at before the model was loaded")
        return found

    def foreign_bytes(self, gpu: Gpu, ours: frozenset[int], said_bytes: int | None) -> int | None:
        """Memory of a GPU that is used by processes that are not ours: neither among `ours` nor in one's group."""
        used_bytes = self._telemetry.view(gpu).memory_used_bytes
        processes = self._telemetry.processes(gpu.uuid)
        new = frozenset(
            one.pid for one in processes or () if one.here and one.pid not in ours and _group(one.pid) in ours
        )
        return foreign_bytes(processes, ours | new, used_bytes, said_bytes)

    def hold(self, gpus: tuple[Gpu, ...], pids: frozenset[int], vram_bytes: int | None) -> Holding:
        """What a child that has just died has on these GPUs."""
        return self._telemetry.hold(gpus, pids, vram_bytes)

    async def freed(self, held: Holding, timeout_s: float) -> None:
        """Return when that is free, when it takes too long, or when nothing will tell."""
        if await self._telemetry.freed(held, timeout_s) is Freed.NOT_YET:
            advice = "nvidia-smi shows who still has it; it is waited for no longer"
            log.warning("vram not freed", gpus=list(held.used_bytes), waited_s=timeout_s, advice=advice)


def _group(pid: int) -> int | None:
    """The process group of a process; a server's number for its runners, one that has just been started included."""
    try:
        return os.getpgid(pid)
    except OSError:
        return None
