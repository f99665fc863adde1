"""The policies that look at no cost: for comparison, and for the cautious. What they choose is sent at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Final

from ollamad.routing.memory import Memory, Policy
from ollamad.routing.request import Request
from ollamad.routing.snapshot import ChildView

Pick = Callable[[Request, Sequence[ChildView], Memory, float], ChildView]
"""One of the children, of which there is at least one. The last argument is luck, in [0, 1)."""


def least_inflight(_request: Request, children: Sequence[ChildView], _memory: Memory, luck: float) -> ChildView:
    """The fewest requests in flight, for its weight; ties by luck."""
    least = min(child.in_flight / child.weight for child in children)
    return at_random(_request, [child for child in children if child.in_flight / child.weight == least], _memory, luck)


def round_robin(_request: Request, children: Sequence[ChildView], memory: Memory, _luck: float) -> ChildView:
    """Each in turn."""
    return children[memory.turns % len(children)]


def at_random(_request: Request, children: Sequence[ChildView], _memory: Memory, luck: float) -> ChildView:
    """By luck alone."""
    return children[int(luck * len(children))]


def sticky(request: Request, children: Sequence[ChildView], _memory: Memory, _luck: float) -> ChildView:
    """Each model has its child; one that goes takes only its own models' place away (highest random weight)."""
    return max(children, key=lambda child: blake2b(f"{child.id} {request.model}".encode(), digest_size=8).digest())


PICKS: Final[Mapping[Policy, Pick]] = {
    Policy.LEAST_INFLIGHT: least_inflight,
    Policy.ROUND_ROBIN: round_robin,
    Policy.RANDOM: at_random,
    Policy.STICKY: sticky,
}
