"""What a client is told that gets no lease."""

from __future__ import annotations

from typing import Final

from ollamad.errors import CapacityError, TurnedAway
from ollamad.fleet.lease import Limits
from ollamad.routing.snapshot import ChildView, Snapshot

RETRY_AFTER_S: Final = 5
"""Where nothing better than a guess is known: how long a child takes to start."""


def full(limits: Limits, after_s: int) -> CapacityError:
    """Too many wait already."""
    text = f"{limits.waiting_max} requests wait for a child already; try again later"
    return CapacityError(text, after_s, TurnedAway.QUEUE_FULL)


def refuse_while_stopping(snapshot: Snapshot) -> None:
    """Raises CapacityError."""
    if snapshot.refusing:
        raise stopping()


def stopping() -> CapacityError:
    """The daemon is on its way out."""
    return CapacityError("ollamad is stopping; try again when it is back", RETRY_AFTER_S, TurnedAway.STOPPING)


def nobody(snapshot: Snapshot) -> CapacityError:
    """No child is there, or none was for too long; what they are doing instead."""
    states = ", ".join(f"{child.id} {_state(child)}" for child in snapshot.children) or "there is no child"
    return CapacityError(f"no child can take this request now ({states})", RETRY_AFTER_S)


def _state(child: ChildView) -> str:
    return f"{child.phase.value}: {child.reason}" if child.reason and not child.routable else child.phase.value
