"""Simulated GPUs as a provider of GPUs: what a driver would say of them, faults included.

Memory and processes are those that the simulated servers have told (`driver.py`): whether a child is where it was
pinned, whose VRAM is whose, and whether a dead child's is free again, is found out by the daemon as on real GPUs.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ollamad.demo.driver import DriverFolder, Use
from ollamad.gpu.model import Gpu, Inventory, Sample
from ollamad.supervision.gpu_health import GpuEvent, GpuEventKind
from ollamad.supervision.pinning import GpuProcess
from ollamad.supervision.xids import explain

GIB: Final = 1024**3
VRAM_BYTES: Final = 24 * GIB
RESERVED_BYTES: Final = 450 * 1024**2
"""What the driver keeps for itself; neither used nor free."""
NAME: Final = "Simulated, 24 GiB"
OFF_THE_BUS: Final = 79
"""The Xid of a GPU that is lost."""
EVENTS_KEPT: Final = 64

IDLE_C: Final = 34.0
WARM_C: Final = 38.0
"""What full load adds to it."""
WARMING: Final = 0.08
"""How much of the way to its final temperature it goes from sample to sample."""
IDLE_W: Final = 22.0
BUSY_W: Final = 310.0
LOADING_PERCENT: Final = 12
FIRST_STREAM_PERCENT: Final = 58
NEXT_STREAM_PERCENT: Final = 9


@dataclass(slots=True, eq=False)
class _Card:
    """One simulated GPU. Faults are set by the event loop, and read by the thread that asks."""

    gpu: Gpu
    lost: bool = False
    stalled: bool = False
    """Calls about it do not return."""
    foreign_bytes: int = 0
    temperature_c: float = IDLE_C


class SimulatedGpus:
    """A `GpuProvider` over GPUs that do not exist, and the switches that break them."""

    def __init__(self, folder: DriverFolder, count: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._clock = clock
        gpus = [Gpu(index, f"GPU-{index:08x}-5170-4000-8000-000000000000", NAME, VRAM_BYTES) for index in range(count)]
        self._cards = {gpu.uuid: _Card(gpu) for gpu in gpus}
        self._events: deque[GpuEvent] = deque(maxlen=EVENTS_KEPT)
        self._freed = threading.Condition()
        self._closed = False
        self._busy_with: str | None = None

    @property
    def gpus(self) -> tuple[Gpu, ...]:
        """All of them, lost ones too."""
        return tuple(card.gpu for card in self._cards.values())

    def lose(self, uuid: str, *, lost: bool = True) -> None:
        """Let it fall off the bus, or come back."""
        if lost and not self._cards[uuid].lost:
            text = f"Xid {OFF_THE_BUS}: {explain(OFF_THE_BUS).meaning}"
            self._events.append(GpuEvent(uuid, GpuEventKind.XID, text, xid=OFF_THE_BUS))
        self._cards[uuid].lost = lost

    def stall(self, uuid: str, *, stalled: bool = True) -> None:
        """Let the driver hang in calls about it, or go on."""
        with self._freed:
            self._cards[uuid].stalled = stalled
            self._freed.notify_all()

    def fill(self, uuid: str, size_bytes: int) -> None:
        """Let a process that is not ours have so much of its memory; 0 lets it go."""
        self._cards[uuid].foreign_bytes = size_bytes
        self._folder.tell_foreign(uuid, size_bytes)

    @property
    def busy_with(self) -> str | None:
        """See `GpuProvider.busy_with`."""
        return self._busy_with

    def discover(self) -> Inventory:
        """See `GpuProvider.discover`."""
        there = tuple(card.gpu for card in self._cards.values() if not card.lost)
        lost = [card.gpu for card in self._cards.values() if card.lost]
        problems = tuple(f"GPU {gpu.index} can't be used: GPU is lost" for gpu in lost)
        return Inventory(there, "simulated", problems)

    def sample(self, uuids: tuple[str, ...]) -> tuple[Sample, ...]:
        """See `GpuProvider.sample`."""
        self._folder.sweep()
        samples = []
        for uuid in uuids:
            self._busy_with = uuid
            try:
                self._wait_out_a_stall(self._cards[uuid])
                samples.append(self._sample(self._cards[uuid]))
            finally:
                self._busy_with = None
        return tuple(samples)

    def events(self) -> tuple[GpuEvent, ...]:
        """See `GpuProvider.events`."""
        found = []
        while self._events:
            found.append(self._events.popleft())
        return tuple(found)

    def close(self) -> None:
        """See `GpuProvider.close`."""
        with self._freed:
            self._closed = True
            self._freed.notify_all()

    def _wait_out_a_stall(self, card: _Card) -> None:
        with self._freed:
            self._freed.wait_for(lambda: not card.stalled or self._closed)

    def _sample(self, card: _Card) -> Sample:
        taken_at_s, uuid = self._clock(), card.gpu.uuid
        if card.lost:
            return Sample(uuid, taken_at_s, error="GPU is lost", fault=GpuEventKind.LOST)
        use = self._folder.use(uuid)
        percent = _percent(use)
        card.temperature_c += WARMING * (IDLE_C + WARM_C * percent / 100 - card.temperature_c)
        used = card.foreign_bytes + sum(occupant.used_bytes for occupant in use.occupants)
        processes = [GpuProcess(occupant.pid, occupant.used_bytes) for occupant in use.occupants]
        if card.foreign_bytes:  # it has to be somebody, and this process is none of the children's
            processes.append(GpuProcess(os.getpid(), card.foreign_bytes))
        return Sample(
            uuid=uuid,
            taken_at_s=taken_at_s,
            memory_used_bytes=min(used, VRAM_BYTES - RESERVED_BYTES),
            memory_free_bytes=max(0, VRAM_BYTES - RESERVED_BYTES - used),
            utilization_percent=percent,
            temperature_c=round(card.temperature_c),
            power_w=round(IDLE_W + (BUSY_W - IDLE_W) * percent / 100, 1),
            throttle_reasons=(),
            ecc_uncorrected=0,
            processes=tuple(processes),
        )


def _percent(use: Use) -> int:
    if not use.streams:
        return LOADING_PERCENT if use.loading else 0
    return min(100, FIRST_STREAM_PERCENT + NEXT_STREAM_PERCENT * (use.streams - 1))
