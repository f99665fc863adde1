"""Keeps the latest sample of every GPU that a child is pinned to."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol

import structlog

from ollamad.errors import GpuError
from ollamad.gpu.model import Gpu, Sample
from ollamad.routing.snapshot import GpuView

log = structlog.get_logger()


class Sampler(Protocol):
    """What telemetry needs of a `GpuThread`."""

    async def sample(self, uuids: tuple[str, ...]) -> tuple[Sample, ...]:
        """One sample of each GPU. Raises GpuError."""


class Telemetry:
    """Samples on a timer. A fault is said when it begins and when it ends, not once a second."""

    def __init__(self, sampler: Sampler, gpus: Sequence[Gpu], interval_s: float) -> None:
        self._sampler = sampler
        self._uuids = tuple(gpu.uuid for gpu in gpus)
        self._interval_s = interval_s
        self._latest: dict[str, Sample] = {}
        self._faults: dict[str, str] = {}

    async def run(self) -> None:
        """Sample until cancelled; returns at once where there is no GPU."""
        while self._uuids:
            try:
                samples = await self._sampler.sample(self._uuids)
            except GpuError as error:
                self._note({uuid: str(error) for uuid in self._uuids})
            else:
                self._latest.update({sample.uuid: sample for sample in samples if sample.error is None})
                self._note({sample.uuid: sample.error for sample in samples if sample.error is not None})
            await asyncio.sleep(self._interval_s)

    def view(self, gpu: Gpu) -> GpuView:
        """A GPU with its last good sample, however old: `sampled_at_s` tells, and `error` says why none is newer."""
        sample = self._latest.get(gpu.uuid)
        return GpuView(
            index=gpu.index,
            uuid=gpu.uuid,
            name=gpu.name,
            memory_total_bytes=gpu.memory_total_bytes,
            memory_used_bytes=sample.memory_used_bytes if sample else None,
            memory_free_bytes=sample.memory_free_bytes if sample else None,
            utilization_percent=sample.utilization_percent if sample else None,
            temperature_c=sample.temperature_c if sample else None,
            sampled_at_s=sample.taken_at_s if sample else None,
            error=self._faults.get(gpu.uuid),
        )

    def _note(self, faults: Mapping[str, str]) -> None:
        for uuid, error in faults.items():
            if self._faults.get(uuid) != error:
                log.warning("gpu does not answer", gpu=uuid, error=error)
        for uuid in self._faults.keys() - faults.keys():
            log.info("gpu answers again", gpu=uuid)
        self._faults = dict(faults)
