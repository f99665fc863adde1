"""What the phase machine remembers of a child, what it is told, and what it has done about it. Values, no behaviour."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Want(Enum):
    """What the operator asked of a child."""

    UP = "up"
    DOWN = "down"


class Phase(Enum):
    """What is true of a child."""

    STOPPED = "stopped"
    """No process. Wanted up, it is so only while it is quarantined."""
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    """It answers, and finishes what it has, but gets nothing new; it stops when it is idle."""
    STOPPING = "stopping"
    BACKOFF = "backoff"
    """It died, and waits for its next start."""
    FAILED = "failed"
    """It died too often: started again slowly, or only by `reset`."""


@dataclass(frozen=True, slots=True)
class ChildState:
    """All that the machine remembers of a child."""

    want: Want = Want.DOWN
    phase: Phase = Phase.STOPPED
    life: int = 0
    """Counts processes, from 1."""
    deadline_s: float | None = None
    """When `Tick` is due, on the monotonic clock; None while time changes nothing."""
    ready_since_s: float | None = None
    asked: bool = False
    """Its end was asked for (a drain, a restart, a quarantine), and is no death."""
    misses: int = 0
    """Liveness probes in a row that it did not answer while ready."""
    failures: int = 0
    """Deaths in a row without a healthy time between."""
    deaths: int = 0
    """Deaths in all, those that were asked for not counted."""
    lately_s: tuple[float, ...] = ()
    """When it died lately, oldest first; bounded by the crash-loop window."""
    on_trial: bool = False
    """Started out of `failed`: one more death before a healthy time sends it back there."""
    runner_killed_s: float | None = None
    """When this life last had its runners killed for being stuck."""
    wedged_s: tuple[float, ...] = ()
    """When it was lately killed for being stuck, oldest first."""
    quarantine: str | None = None
    """Why it must not run although it is wanted; None when it may."""
    quarantined_until_s: float | None = None
    """When a quarantine ends by itself; None for one that lasts until its GPU is well."""
    reason: str | None = None
    """Why it is not ready, or why it last died; None when it never did."""


@dataclass(frozen=True, slots=True)
class WantUp:
    """The operator wants it to serve."""


@dataclass(frozen=True, slots=True)
class WantDown:
    """It is to stop now; what it streams is cut."""


@dataclass(frozen=True, slots=True)
class Drain:
    """The operator wants it to finish what it has, then to stop."""


@dataclass(frozen=True, slots=True)
class Restart:
    """It is to finish what it has, and go on as a new process."""


@dataclass(frozen=True, slots=True)
class Reset:
    """The operator has mended what ailed it: forget its deaths and its quarantine, start it now."""


@dataclass(frozen=True, slots=True)
class Answered:
    """It answered a probe, of readiness or of liveness."""

    life: int


@dataclass(frozen=True, slots=True)
class Missed:
    """It did not answer a liveness probe."""

    life: int


@dataclass(frozen=True, slots=True)
class Stuck:
    """It answers probes, but a runner, a load or its scheduler makes no progress."""

    life: int
    model: str | None
    """Whose runner it seems to be; None where nothing tells."""
    reason: str


@dataclass(frozen=True, slots=True)
class Unfit:
    """It runs, but not where it must: a runner on the CPU or on a stranger's GPU."""

    life: int
    reason: str


@dataclass(frozen=True, slots=True)
class Idle:
    """It has no request left."""

    life: int


@dataclass(frozen=True, slots=True)
class Gone:
    """Its process and its whole group are gone, or it could not be started at all."""

    life: int
    reason: str


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Its GPU ails: it must not run there until `Release`."""

    reason: str
    at_once: bool
    """The GPU is gone or broken; else streams may finish."""


@dataclass(frozen=True, slots=True)
class Release:
    """Its GPU is well again."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


Event = (
    WantUp
    | WantDown
    | Drain
    | Restart
    | Reset
    | Answered
    | Missed
    | Stuck
    | Unfit
    | Idle
    | Gone
    | Quarantine
    | Release
    | Tick
)


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start process number `life`."""

    life: int


@dataclass(frozen=True, slots=True)
class Terminate:
    """Ask it to stop."""

    life: int


@dataclass(frozen=True, slots=True)
class KillRunner:
    """End the runner of this model, or all of them where none can be told apart; the server goes on."""

    life: int
    model: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class MoveWaiting:
    """Send elsewhere what it has not begun to answer."""

    life: int


@dataclass(frozen=True, slots=True)
class Kill:
    """End it and its whole group, now."""

    life: int


Action = Spawn | Terminate | KillRunner | MoveWaiting | Kill
Step = tuple[ChildState, tuple[Action, ...]]
