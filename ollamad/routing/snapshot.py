"""The fleet at one instant, immutable: what routing decides on and status shows."""

from __future__ import annotations

from dataclasses import dataclass

from ollamad.supervision.phase import Phase, Want


@dataclass(frozen=True, slots=True)
class Resident:
    """A model that a child has loaded, as its `/api/ps` said."""

    model: str
    """Its canonical name, as `ollama.names.canonical` gives it."""
    size_bytes: int | None
    vram_bytes: int | None
    """How much of it is in VRAM; less than its size where part of it runs on the CPU."""
    expires_at: str | None


@dataclass(frozen=True, slots=True)
class GpuView:
    """One GPU and its latest sample. Readings are None where the driver gives none, or none yet."""

    index: int
    uuid: str
    name: str
    memory_total_bytes: int | None
    memory_used_bytes: int | None
    memory_free_bytes: int | None
    utilization_percent: int | None
    temperature_c: int | None
    sampled_at_s: float | None
    error: str | None


@dataclass(frozen=True, slots=True)
class StreamView:
    """One request that holds a lease on a child."""

    model: str | None
    """Canonical name; None where the request needs no runner."""
    since_s: float
    """When the lease was taken, on the monotonic clock."""
    heard_s: float | None
    """When the child last sent a byte of the response; None before the first."""


@dataclass(frozen=True, slots=True)
class ChildView:
    """One child."""

    id: str
    want: Want
    phase: Phase
    trusted: bool
    """False from a failed connection, or its exit, until it answers again: ready on paper, perhaps just dying."""
    in_flight: int
    """Requests that hold a lease on it now. Ours, exact and instant."""
    slots: int = 1
    """How many requests of one model it serves at once (`ollama.num_parallel`)."""
    life: int = 0
    """Which process of the child this is, counted from 1."""
    residents: tuple[Resident, ...] = ()
    residents_at_s: float | None = None
    gpus: tuple[GpuView, ...] = ()
    pid: int | None = None
    port: int | None = None
    version: str | None = None
    ready_since_s: float | None = None
    deaths: int = 0
    reason: str | None = None
    streams: tuple[StreamView, ...] = ()
    """The requests behind `in_flight`, oldest first."""

    @property
    def routable(self) -> bool:
        """Whether requests may be sent to it."""
        return self.phase is Phase.READY and self.want is Want.UP and self.trusted


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All children, in the order of the configuration, and the requests that wait for one."""

    taken_at_s: float
    children: tuple[ChildView, ...]
    waiting: int = 0
    stopping: bool = False
    """The daemon is on its way out: nothing new is taken."""
