"""Watches every GPU of the machine: its latest sample, what befell it, and whether it can be trusted with a child.

All GPUs, not only those that have a child: a runner that is on the wrong one shows in that one's list of processes.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol

import structlog

from ollamad.config.schema import Gpus
from ollamad.errors import GpuError, GpuSilent
from ollamad.fleet.bell import Bell
from ollamad.fleet.gpu_faults import GpuFaults, OnVerdict, Remembered
from ollamad.fleet.smoothing import Smoothed
from ollamad.gpu.model import Gpu, Inventory, Sample
from ollamad.routing.snapshot import GpuView
from ollamad.supervision.freeing import Freed, Holding, vram_freed
from ollamad.supervision.gpu_health import GpuEvent, GpuEventKind, Health, HealthPolicy, Verdict
from ollamad.supervision.pinning import GpuProcess, Listed

log = structlog.get_logger()

SMOOTHING_S: Final = 5.0
"""Time constant of the smoothed utilization. A single reading is one window of the driver, 1/6 to 1 s, in which one
decode already reads as 100 %; five seconds span several requests, and still follow a load that begins or ends."""
SOON_S: Final = 5.0
"""How often to look again which GPUs there are, while one with a child is not well."""
FREED_LOOK_S: Final = 0.05
"""How often to sample while somebody waits for VRAM to be freed."""


class Sampler(Protocol):
    """What telemetry needs of a `GpuThread`."""

    async def discover(self) -> Inventory:
        """The GPUs that are there now. Raises GpuError."""

    async def sample(self, uuids: tuple[str, ...]) -> tuple[Sample, ...]:
        """One sample of each GPU. Raises GpuError."""

    def take_events(self) -> tuple[GpuEvent, ...]:
        """What the driver reported, each event once."""


class Telemetry:
    """Samples on a timer. A fault is said when it begins and when it ends, not once a second."""

    def __init__(
        self,
        sampler: Sampler,
        gpus: Sequence[Gpu],
        interval_s: float,
        *,
        policy: HealthPolicy | None = None,
        rediscover_interval_s: float = 60.0,
        on_verdict: OnVerdict | None = None,
    ) -> None:
        """`gpus` are those with a child. `on_verdict` is called whenever a GPU's health changes, with its UUID.

        Rediscovery starts the driver's library afresh, which wakes GPUs that sleep: hence its slow default.
        """
        self._sampler = sampler
        self._pinned = {gpu.uuid: gpu for gpu in gpus}
        self._gpus = dict(self._pinned)
        self._interval_s = interval_s
        self._rediscover_interval_s = rediscover_interval_s
        self._state = GpuFaults(policy or HealthPolicy(), on_verdict)
        self._latest: dict[str, Sample] = {}
        self._smoothed: dict[str, Smoothed] = {}
        self._unread: frozenset[str] = frozenset()
        self._errors: dict[str, str] = {}
        self._looked_at_s: float | None = None
        self.turned_s: float | None = None
        """When a round of samples last ended, on the monotonic clock; None before the first."""
        self._hurry = Bell()
        self._sampled = Bell()

    @classmethod
    def configured(cls, sampler: Sampler, gpus: Sequence[Gpu], config: Gpus) -> Telemetry:
        """As the configuration says."""
        policy = HealthPolicy(
            unanswered_max_s=config.unanswered_max_s,
            recover_after_s=config.recover_after_s,
            recover_max_s=config.recover_max_s,
        )
        rediscover_s = config.rediscover_interval_s
        return cls(sampler, gpus, config.sample_interval_s, policy=policy, rediscover_interval_s=rediscover_s)

    async def run(self) -> None:
        """Sample until cancelled."""
        while True:
            if self._is_time_to_look():
                await self._look()
            if self._gpus:
                await self._sample(tuple(self._gpus))
            self.turned_s = time.monotonic()
            self._sampled.ring()
            await self._hurry.heard(self._interval_s)

    def tell(self, on_verdict: OnVerdict) -> None:
        """Whom to tell of changes from now on, in the constructor's place; what is not healthy now is told at once."""
        self._state.tell(on_verdict)

    def pin(self, gpus: Iterable[Gpu]) -> None:
        """These have a child from now on: they are looked after although the driver does not list them."""
        self._pinned |= {gpu.uuid: gpu for gpu in gpus}

    @property
    def gpus(self) -> tuple[Gpu, ...]:
        """All GPUs that were there at the last look, and those with a child, there or not; by index."""
        return tuple(sorted(self._gpus.values(), key=lambda gpu: (gpu.index, gpu.uuid)))

    @property
    def events(self) -> tuple[Remembered, ...]:
        """What befell GPUs lately, oldest first; bounded."""
        return tuple(self._state.events)

    def view(self, gpu: Gpu) -> GpuView:
        """A GPU with its last good sample, however old: `sampled_at_s` tells, and `error` says why none is newer."""
        sample = self._latest.get(gpu.uuid)
        smoothed = self._smoothed.get(gpu.uuid)
        verdict = self.health(gpu.uuid)
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
            error=self._errors.get(gpu.uuid),
            power_w=sample.power_w if sample else None,
            throttled=sample.throttled if sample else None,
            utilization_smoothed_percent=round(smoothed.value, 1) if smoothed else None,
            quarantined=verdict.reason if verdict.health is Health.QUARANTINED else None,
        )

    def health(self, uuid: str) -> Verdict:
        """The verdict on a GPU now; healthy while nothing is known against it."""
        return self._state.verdict(uuid)

    def processes(self, uuid: str) -> tuple[GpuProcess, ...] | None:
        """Who is on a GPU; None where that can't be read, or the last round gave no sample of it."""
        sample = self._latest.get(uuid)
        return None if sample is None or uuid in self._unread else sample.processes

    def listed(self) -> Listed:
        """`processes` of every GPU of the machine, for `supervision.pinning`."""
        return {uuid: self.processes(uuid) for uuid in self._gpus}

    def hold(self, gpus: Iterable[Gpu], pids: frozenset[int], vram_bytes: int | None) -> Holding:
        """What a child has that is about to die, or has died just now; for `freed`.

        `pids` are its server and all under it, `vram_bytes` what its `/api/ps` last put in VRAM. To be called as soon
        as the death is decided or known, since the next sample may already show less.
        """
        uuids = [gpu.uuid for gpu in gpus]
        return Holding(
            pids=pids,
            since_s=time.monotonic(),
            vram_bytes=vram_bytes,
            used_bytes={uuid: one.memory_used_bytes if (one := self._latest.get(uuid)) else None for uuid in uuids},
            was_listed=any(one.pid in pids for uuid in uuids for one in self.processes(uuid) or ()),
        )

    async def freed(self, held: Holding, timeout_s: float) -> Freed:
        """Wait until a dead child's VRAM is free; NOT_YET after `timeout_s`, UNKNOWN once nothing will tell."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            now = vram_freed(held, [sample for uuid, sample in self._latest.items() if uuid in held.used_bytes])
            if now is not Freed.NOT_YET or time.monotonic() >= deadline_s:
                return now
            self._hurry.ring()
            await self._sampled.heard(min(FREED_LOOK_S, max(0.0, deadline_s - time.monotonic())))

    def _is_time_to_look(self) -> bool:
        if self._looked_at_s is None:
            return True
        well = all(self.health(uuid).health is Health.HEALTHY for uuid in self._pinned)
        interval_s = self._rediscover_interval_s if well else min(SOON_S, self._rediscover_interval_s)
        return time.monotonic() - self._looked_at_s >= interval_s

    async def _look(self) -> None:
        """See which GPUs came or went. What the driver refuses here, the next sample tells."""
        first, self._looked_at_s = self._looked_at_s is None, time.monotonic()
        try:
            inventory = await self._sampler.discover()
        except GpuError:
            return
        there = {gpu.uuid: gpu for gpu in inventory.gpus}
        for uuid in there.keys() - self._gpus.keys():
            if not first:
                log.warning("gpu appeared", gpu=uuid, name=there[uuid].name, index=there[uuid].index)
        missing = self._gpus.keys() - there.keys()
        self._gpus = self._pinned | there
        if inventory.problems:  # it may be one of those that the driver counts, but can't open
            return
        for uuid in missing:
            self._state.befell(GpuEvent(uuid, GpuEventKind.GONE, "the driver does not list it any more"))

    async def _sample(self, uuids: tuple[str, ...]) -> None:
        samples: tuple[Sample, ...] = ()
        try:
            samples = await self._sampler.sample(uuids)
        except GpuError as error:
            self._note({uuid: str(error) for uuid in uuids})
            self._blame(error)
        else:
            self._note({sample.uuid: sample.error for sample in samples if sample.error is not None})
        for event in self._sampler.take_events():
            self._state.befell(event)
        for sample in samples:
            self._take(sample)
        self._unread = frozenset(uuids) - {sample.uuid for sample in samples if sample.fault is None}

    def _blame(self, error: GpuError) -> None:
        """Nothing was read: the GPU that the driver hangs on is to blame, or else the driver."""
        if isinstance(error, GpuSilent) and error.uuid in self._gpus:
            self._state.befell(GpuEvent(error.uuid, GpuEventKind.UNANSWERED, str(error)))
            return
        for uuid in self._gpus:
            self._state.befell(GpuEvent(uuid, GpuEventKind.DRIVER, str(error)))

    def _take(self, sample: Sample) -> None:
        self._state.read(sample)
        if sample.fault is not None:
            return
        self._latest[sample.uuid] = sample
        if sample.utilization_percent is not None:
            percent = float(sample.utilization_percent)
            before = self._smoothed.get(sample.uuid, Smoothed(percent, sample.taken_at_s))
            self._smoothed[sample.uuid] = before.with_reading(percent, sample.taken_at_s, SMOOTHING_S)

    def _note(self, errors: Mapping[str, str]) -> None:
        for uuid, error in errors.items():
            if self._errors.get(uuid) != error:
                log.warning("gpu does not answer", gpu=uuid, error=error)
        for uuid in self._errors.keys() - errors.keys():
            log.info("gpu answers again", gpu=uuid)
        self._errors = dict(errors)
