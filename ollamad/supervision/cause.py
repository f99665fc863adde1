"""Of which class a child's death was, for counting: told from the step that decided it, never from a text. Pure."""

from __future__ import annotations

from enum import Enum

from ollamad.supervision.state import ChildState, Event, Missed, Phase, Stuck, Tick, Unfit


class Cause(Enum):
    """Why a process of a child ended although nobody had asked for it."""

    EXITED = "exited"
    """By itself, or by somebody else's signal, while it was ready."""
    NOT_STARTED = "not_started"
    """It could not be started, or was gone before it was ready."""
    START_TIMEOUT = "start_timeout"
    """It was ended because it did not become ready in time."""
    UNRESPONSIVE = "unresponsive"
    """It was ended because it left probes unanswered."""
    STUCK = "stuck"
    """It was ended because it made no progress, and the end of its runner had not helped."""
    UNFIT = "unfit"
    """It was ended because its models were not where it was pinned."""


def cause_of(before: ChildState, event: Event, after: ChildState, earlier: Cause | None) -> Cause | None:
    """What the process that `after` has will have died of, should it die now; None while nothing ails it.

    `earlier` is what the step before said. When `after` counts one more death than `before`, that death is of the
    class given here.
    """
    if after.deaths > before.deaths:
        return earlier or (Cause.NOT_STARTED if before.phase is Phase.STARTING else Cause.EXITED)
    if after.life != before.life:
        return None
    if after.phase is before.phase or after.phase is not Phase.STOPPING or after.asked:
        return earlier
    return _fault(event)


def _fault(event: Event) -> Cause | None:
    match event:
        case Missed():
            return Cause.UNRESPONSIVE
        case Stuck():
            return Cause.STUCK
        case Unfit():
            return Cause.UNFIT
        case Tick():
            return Cause.START_TIMEOUT
        case _:
            return None
