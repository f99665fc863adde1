"""How long a line takes, when slots free at some rate and more of them come later."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from typing import NamedTuple


class Source(NamedTuple):
    """Slots that serve a line."""

    from_s: float
    """Seconds from now until they are there; 0 for those that are."""
    slots: int
    """How many are free the moment they are there."""
    per_s: float
    """How many free each second from then on."""


def expected_wait_s(place: int, sources: Iterable[Source]) -> float:
    """When the request at `place` (0 is the head) gets a slot; infinity without a source.

    A fluid estimate: ages of the requests under way are not used, as the time that is left to one says little; only
    where none has ended for long, the rates that are given are low.
    """
    needed = place + 1.0
    now_s, per_s = 0.0, 0.0
    for source in sorted(sources):
        gap_s = source.from_s - now_s
        if per_s and needed <= per_s * gap_s:
            break
        needed -= per_s * gap_s + source.slots
        now_s, per_s = source.from_s, per_s + source.per_s
        if needed <= 0:
            return now_s
    return now_s + needed / per_s if per_s else inf
