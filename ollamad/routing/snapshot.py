"""The fleet at one instant, immutable: what routing decides on and status shows."""

from __future__ import annotations

from dataclasses import dataclass

from ollamad.supervision.pinning import Pinning
from ollamad.supervision.state import Phase, Want


@dataclass(frozen=True, slots=True)
class Resident:
    """A model that a child has loaded, as its `/api/ps` said."""

    model: str
    """Its canonical name, as `ollama.names.canonical` gives it."""
    size_bytes: int | None
    vram_bytes: int | None
    """How much of it is in VRAM; less than its size where part of it runs on the CPU."""
    expires_at: str | None
    expires_s: float | None = None
    """The same on the monotonic clock; past while it is used, or while it is being unloaded."""


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
    power_w: float | None = None
    throttled: bool | None = None
    """Whether heat or power holds its clocks down."""
    utilization_smoothed_percent: float | None = None
    """`utilization_percent` over the last seconds: single readings jump between 0 and 100."""
    quarantined: str | None = None
    """Why it gets no child; None while it may have one."""
    foreign_bytes: int | None = None
    """Memory that processes have which are not ours; None where that can't be told."""


@dataclass(frozen=True, slots=True)
class StreamView:
    """One request that holds a lease on a child."""

    model: str | None
    """Canonical name; None where the request needs no runner."""
    since_s: float
    """When the lease was taken, on the monotonic clock."""
    heard_s: float | None
    """When the child last sent a byte of the response; None before the first."""
    held: bool = False
    """Its client does not take what has come."""


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
    failures: int = 0
    """Deaths in a row without a healthy time between."""
    quarantine: str | None = None
    """Why it must not run although it is wanted."""
    next_s: float | None = None
    """When time alone will change its phase: the end of a backoff, a drain, a quarantine."""
    pinning: Pinning | None = None
    """Whether its models are where it was pinned, as far as can be seen."""
    outdated: bool = False
    """The ollama program on disk is another than the one that it runs."""

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
