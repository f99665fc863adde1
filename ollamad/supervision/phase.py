"""A child's phase machine: what is true of it, what happened, and so what to do.

    from              on                    to        doing
    stopped           want up               starting  spawn
    starting          answers               ready
    starting          too slow              stopping  kill
    ready             misses probes         stopping  kill
    starting, ready   gone                  backoff
    starting, ready   want down             stopping  terminate
    stopping          deadline              stopping  kill, again and again
    stopping          gone, while wanted    backoff
    stopping          gone, not wanted      stopped
    backoff           wait over             starting  spawn
    backoff           want down             stopped

`step` is total: every state has an answer to every event. It knows no clock, no process and no randomness: they come
in as arguments and events. `want` is what the operator asked, `phase` what is true; neither is ever derived from the
other.

A life is one process. Events carry the life that they tell of, and news of an older life is dropped, so that what is
heard late of a dead process can't touch its successor. `Gone` is told only when the process *and its whole group* are
gone: a runner that is left behind still holds its VRAM.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import assert_never

from ollamad.supervision.backoff import RestartPolicy, backoff_s


class Want(Enum):
    """What the operator asked of a child."""

    UP = "up"
    DOWN = "down"


class Phase(Enum):
    """What is true of a child."""

    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    BACKOFF = "backoff"


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
    misses: int = 0
    """Liveness probes in a row that it did not answer while ready."""
    failures: int = 0
    """Deaths in a row without a healthy time between."""
    deaths: int = 0
    """Deaths in all, those that were asked for not counted."""
    reason: str | None = None
    """Why it is not ready, or why it last died; None when it never did."""


@dataclass(frozen=True, slots=True)
class WantUp:
    """The operator wants it to serve."""


@dataclass(frozen=True, slots=True)
class WantDown:
    """The operator wants it stopped."""


@dataclass(frozen=True, slots=True)
class Answered:
    """It answered a probe, of readiness or of liveness."""

    life: int


@dataclass(frozen=True, slots=True)
class Missed:
    """It did not answer a liveness probe."""

    life: int


@dataclass(frozen=True, slots=True)
class Gone:
    """Its process and its whole group are gone, or it could not be started at all."""

    life: int
    reason: str


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


Event = WantUp | WantDown | Answered | Missed | Gone | Tick


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start process number `life`."""

    life: int


@dataclass(frozen=True, slots=True)
class Terminate:
    """Ask it to stop."""

    life: int


@dataclass(frozen=True, slots=True)
class Kill:
    """End it and its whole group, now."""

    life: int


Action = Spawn | Terminate | Kill
Step = tuple[ChildState, tuple[Action, ...]]


def step(state: ChildState, event: Event, now_s: float, policy: RestartPolicy, luck: float) -> Step:
    """The next state, and what to do about it. `luck` in [0, 1) spreads the backoff."""
    match event:
        case WantUp():
            return _want_up(state, now_s, policy)
        case WantDown():
            return _want_down(state, now_s, policy)
        case Answered(life=life):
            return _answered(state, life, now_s)
        case Missed(life=life):
            return _missed(state, life, now_s, policy)
        case Gone(life=life, reason=reason):
            return _gone(state, life, reason, now_s, policy, luck)
        case Tick():
            return _tick(state, now_s, policy)
    assert_never(event)


def _want_up(state: ChildState, now_s: float, policy: RestartPolicy) -> Step:
    wanted = replace(state, want=Want.UP)
    return _start(wanted, now_s, policy) if state.phase is Phase.STOPPED else (wanted, ())


def _want_down(state: ChildState, now_s: float, policy: RestartPolicy) -> Step:
    unwanted = replace(state, want=Want.DOWN)
    match state.phase:
        case Phase.STARTING | Phase.READY:
            stopping = replace(
                unwanted, phase=Phase.STOPPING, deadline_s=now_s + policy.stop_timeout_s, ready_since_s=None
            )
            return stopping, (Terminate(state.life),)
        case Phase.BACKOFF:
            return replace(unwanted, phase=Phase.STOPPED, deadline_s=None), ()
        case Phase.STOPPED | Phase.STOPPING:
            return unwanted, ()
    assert_never(state.phase)


def _answered(state: ChildState, life: int, now_s: float) -> Step:
    if life != state.life:
        return state, ()
    match state.phase:
        case Phase.STARTING:
            return replace(state, phase=Phase.READY, ready_since_s=now_s, deadline_s=None, misses=0), ()
        case Phase.READY:
            return replace(state, misses=0), ()
        case Phase.STOPPED | Phase.STOPPING | Phase.BACKOFF:
            return state, ()
    assert_never(state.phase)


def _missed(state: ChildState, life: int, now_s: float, policy: RestartPolicy) -> Step:
    if life != state.life or state.phase is not Phase.READY:
        return state, ()
    misses = state.misses + 1
    if misses < policy.misses_max:
        return replace(state, misses=misses), ()
    dead = f"alive, but did not answer {misses} probes in a row"
    return _kill(replace(state, phase=Phase.STOPPING, misses=misses, reason=dead), now_s, policy)


def _gone(state: ChildState, life: int, reason: str, now_s: float, policy: RestartPolicy, luck: float) -> Step:
    if life != state.life or state.phase in {Phase.STOPPED, Phase.BACKOFF}:
        return state, ()
    if state.want is Want.DOWN:
        return replace(state, phase=Phase.STOPPED, deadline_s=None, ready_since_s=None), ()
    healthy = state.ready_since_s is not None and now_s - state.ready_since_s >= policy.healthy_after_s
    failures = 1 if healthy else state.failures + 1
    # A child that we ended for being too slow is STOPPING and carries that reason already: the better one to tell.
    why = state.reason if state.phase is Phase.STOPPING and state.reason else reason
    died = replace(
        state,
        phase=Phase.BACKOFF,
        deadline_s=now_s + backoff_s(failures, policy, luck),
        ready_since_s=None,
        failures=failures,
        deaths=state.deaths + 1,
        reason=why,
    )
    return _tick(died, now_s, policy)


def _tick(state: ChildState, now_s: float, policy: RestartPolicy) -> Step:
    if state.deadline_s is None or now_s < state.deadline_s:
        return state, ()
    match state.phase:
        case Phase.BACKOFF:
            return _start(state, now_s, policy)
        case Phase.STARTING:
            slow = f"not ready {policy.start_timeout_s:g} s after its start"
            return _kill(replace(state, phase=Phase.STOPPING, reason=slow), now_s, policy)
        case Phase.STOPPING:
            return _kill(state, now_s, policy)
        case Phase.STOPPED | Phase.READY:
            return replace(state, deadline_s=None), ()
    assert_never(state.phase)


def _start(state: ChildState, now_s: float, policy: RestartPolicy) -> Step:
    life = state.life + 1
    starting = replace(state, phase=Phase.STARTING, life=life, deadline_s=now_s + policy.start_timeout_s)
    return starting, (Spawn(life),)


def _kill(state: ChildState, now_s: float, policy: RestartPolicy) -> Step:
    # The next deadline repeats the kill: a process in an uninterruptible call can outlive the first.
    return replace(state, deadline_s=now_s + policy.stop_timeout_s), (Kill(state.life),)
