"""Whether the VRAM of a child that died is free again, so that its successor finds room.

Best by the driver's lists: a process leaves them when its memory on the GPU is released, which can be a while after it
is dead. Where the lists never showed the child, as in containers, by memory: Ollama itself takes three quarters of what
it had for all of it, since what others do meanwhile shows in the same number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

from ollamad.supervision.pinning import GpuProcess

ENOUGH: Final = 0.75
"""Share of the memory that must be back."""


class Occupancy(Protocol):
    """What a sample says of who has a GPU's memory; `gpu.model.Sample` is one."""

    @property
    def uuid(self) -> str:
        """Whose it is."""

    @property
    def taken_at_s(self) -> float:
        """When, on the monotonic clock."""

    @property
    def memory_used_bytes(self) -> int | None:
        """By all processes together."""

    @property
    def processes(self) -> tuple[GpuProcess, ...] | None:
        """Who is on it; None where the list can't be read."""


class Freed(Enum):
    """What is known of a dead child's VRAM."""

    YES = "yes"
    NOT_YET = "not yet"
    UNKNOWN = "unknown"
    """Nothing that can be read here will ever tell: waiting for it is of no use."""


@dataclass(frozen=True, slots=True)
class Holding:
    """What a child had on its GPUs when it died."""

    pids: frozenset[int]
    """Its server and all under it."""
    since_s: float
    """When its death was decided or known; a sample from before says nothing."""
    vram_bytes: int | None
    """What its `/api/ps` last said was in VRAM, all models together."""
    used_bytes: Mapping[str, int | None]
    """What was used on each of its GPUs, by UUID, by all processes together."""
    was_listed: bool
    """Whether the driver's lists showed any of its processes."""


def vram_freed(held: Holding, samples: Sequence[Occupancy]) -> Freed:
    """Judge by the latest sample of each of the child's GPUs. Total; a child without GPUs holds nothing."""
    latest = {sample.uuid: sample for sample in samples if sample.taken_at_s >= held.since_s}
    if held.used_bytes.keys() - latest.keys():
        return Freed.NOT_YET
    own = [latest[uuid] for uuid in held.used_bytes]
    if any(process.pid in held.pids for sample in own for process in sample.processes or ()):
        return Freed.NOT_YET
    if held.vram_bytes == 0 or not own:
        return Freed.YES
    if held.was_listed and all(sample.processes is not None for sample in own):
        return Freed.YES
    return _by_memory(held, own)


def _by_memory(held: Holding, own: Sequence[Occupancy]) -> Freed:
    before = [held.used_bytes[sample.uuid] for sample in own]
    now = [sample.memory_used_bytes for sample in own]
    if held.vram_bytes is None or None in before or None in now:
        return Freed.UNKNOWN
    back = sum(size for size in before if size is not None) - sum(size for size in now if size is not None)
    return Freed.YES if back >= ENOUGH * held.vram_bytes else Freed.NOT_YET
