"""The fleet at one instant, immutable: what routing decides on and status shows."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import msgspec

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
    shape: str = ""
    """The options that it was loaded with, where ollamad loaded it; see `Request.shape`."""
    since_s: float | None = None
    """When it was first seen there."""


@dataclass(frozen=True, slots=True)
class LoadView:
    """A load that ollamad has begun on a child: one at a time, and not the client's to abort."""

    model: str
    shape: str
    since_s: float
    evicts: tuple[str, ...] = ()
    """Models that must go first. They get no more requests there, and go when their last one ends."""
    asked_s: float | None = None
    """When the child was told to; None while there is no room yet."""


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


class ChildView(msgspec.Struct, frozen=True):
    """One child. A view is made for each request: a dataclass of so many fields would take 3 µs for that, this 0.4."""

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
    busy: Mapping[str, int] = msgspec.field(default_factory=dict)
    """The requests behind `in_flight` that use a runner, counted by model."""
    load: LoadView | None = None
    kind: str = "cpu"
    """What it runs on: children of one kind are taken to be equally fast."""
    memory_bytes: int | None = None
    """VRAM of its GPUs that models may use: what foreign processes hold, and a margin, is taken off. None: unknown."""
    models_max: int = 1_000
    """How many models it holds at once (`ollama.max_loaded_models`)."""
    weight: float = 1.0
    """Set by the operator: a child of weight 2 is taken to be twice as fast as it looks."""

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
    """The daemon is on its way out, and tells load balancers so."""
    refusing: bool = False
    """Nothing new is taken any more."""
    others: tuple[GpuView, ...] = ()
    """The machine's GPUs that have no child; only for those who look, routing has no use for them."""
    notes: tuple[str, ...] = ()
    """What an operator should know, and no single child shows; only for those who look."""
    derived: dict[tuple[str, ...], float] = field(default_factory=dict, compare=False, repr=False)
    """What was worked out from it already, by whoever did; it can't change while the snapshot does not."""

    def has_another(self, than: Collection[tuple[str, int]]) -> bool:
        """Whether a child takes requests that is none of these, by name and life."""
        return any(child.routable and (child.id, child.life) not in than for child in self.children)

    def copies(self, model: str) -> int:
        """How many children that can be used have this model."""
        if ("copies",) not in self.derived:
            self.derived["copies",] = 1.0
            for child in self.children:
                if child.routable:
                    for resident in child.residents:
                        name = ("copies", resident.model)
                        self.derived[name] = self.derived.get(name, 0.0) + 1.0
        return int(self.derived.get(("copies", model), 0.0))
