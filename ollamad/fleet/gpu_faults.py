"""What befell each GPU lately, and so whether it can be trusted with a child: remembered, told when it changes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from ollamad.gpu.model import Sample
from ollamad.supervision.gpu_health import (
    GpuEvent,
    GpuEventKind,
    GpuHealth,
    Health,
    HealthPolicy,
    Verdict,
    noticed,
    verdict,
)

log = structlog.get_logger()

EVENTS_KEPT: Final = 100
OnVerdict = Callable[[str, Verdict], None]
"""Hears a GPU's UUID and its new verdict."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """An event, and when it was noticed, on the monotonic clock."""

    event: GpuEvent
    at_s: float


class GpuFaults:
    """The health of all GPUs: `supervision.gpu_health` decides, this remembers and tells."""

    def __init__(self, policy: HealthPolicy, on_verdict: OnVerdict | None = None) -> None:
        self.events: deque[Remembered] = deque(maxlen=EVENTS_KEPT)
        """Oldest first."""
        self._policy = policy
        self._on_verdict = on_verdict
        self._health: dict[str, GpuHealth] = {}
        self._standing: set[tuple[str, GpuEventKind]] = set()

    def tell(self, on_verdict: OnVerdict) -> None:
        """Whom to tell from now on; what is not healthy already is told at once."""
        self._on_verdict = on_verdict
        for uuid, health in self._health.items():
            if health.verdict.health is not Health.HEALTHY:
                on_verdict(uuid, health.verdict)

    def verdict(self, uuid: str) -> Verdict:
        """On a GPU, now; healthy while nothing is known against it."""
        return self._of(uuid).verdict

    def befell(self, event: GpuEvent) -> None:
        """Something happened to a GPU."""
        self._remember(event)
        self._decide(event.uuid, event)

    def read(self, sample: Sample) -> None:
        """A GPU was read, or failed to be."""
        event = noticed(self._of(sample.uuid), sample)
        if event is None:
            self._standing = {(uuid, kind) for uuid, kind in self._standing if uuid != sample.uuid}
        else:
            self._remember(event)
        self._decide(sample.uuid, sample)

    def _of(self, uuid: str) -> GpuHealth:
        return self._health.get(uuid, GpuHealth())

    def _remember(self, event: GpuEvent) -> None:
        """Once for what lasts, each time for what strikes."""
        if event.kind not in {GpuEventKind.XID, GpuEventKind.ECC}:
            if (event.uuid, event.kind) in self._standing:
                return
            self._standing.add((event.uuid, event.kind))
        self.events.append(Remembered(event, time.monotonic()))
        log.warning("gpu event", gpu=event.uuid, kind=event.kind.value, text=event.text, xid=event.xid)

    def _decide(self, uuid: str, fact: GpuEvent | Sample) -> None:
        before = self._of(uuid)
        self._health[uuid], after = verdict(before, fact, time.monotonic(), self._policy)
        if after.health is before.verdict.health:
            return
        match after.health:
            case Health.HEALTHY:
                log.info("gpu is healthy again", gpu=uuid)
            case Health.SUSPECT:
                log.warning("gpu is suspect", gpu=uuid, reason=after.reason)
            case Health.QUARANTINED:
                log.error("gpu quarantined", gpu=uuid, reason=after.reason)
        if self._on_verdict is not None:
            self._on_verdict(uuid, after)
