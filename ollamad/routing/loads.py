"""The loads that could be begun for a request: where, what would have to go, and what that costs whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ollamad.routing.case import Case
from ollamad.routing.decision import Standing, Terms
from ollamad.routing.queueing import Source, expected_wait_s
from ollamad.routing.room import Room, crowd, is_too_large, make_room
from ollamad.routing.snapshot import ChildView

HELD_HARM: Final = 2.0
"""Evicting a model that has not stayed its time counts this many times as much."""


@dataclass(frozen=True, slots=True)
class Option:
    """A load that could be begun."""

    terms: Terms
    wait_s: float
    """Until the request gets a slot, with this load under way."""
    harm_s: float
    """What the evictions will cost others, all together."""
    crowd_s: float
    """How much company the model would have there for as long as it stays."""

    @property
    def cost_s(self) -> float:
        """What is compared."""
        return self.wait_s + self.terms.evict_s + self.terms.prefill_s + self.terms.pressure_s + self.crowd_s


def options(
    case: Case, fit: Sequence[ChildView], standings: Sequence[Standing], sources: list[Source]
) -> tuple[list[Option], dict[str, str]]:
    """The loads that could be begun, now or after the one that is under way; and why not on some children."""
    could = [
        child
        for child, standing in zip(fit, standings, strict=True)
        if standing in {Standing.COLD, Standing.BLOCKED} and not (child.load and child.load.model == case.model)
    ]
    large = [child for child in could if is_too_large(case.model, child, case.memory)]
    why = {child.id: "is too small for this model" for child in large}
    if large and len(large) == len(could):  # it spills over to the CPU wherever it goes: where least of it does
        if sources:
            return [], why
        largest = max(child.memory_bytes or 0 for child in could)
        large = [child for child in could if (child.memory_bytes or 0) < largest]
    found = []
    for child in could:
        if child in large:
            continue
        room = make_room(case.model, child, case.snapshot, case.memory)
        if room is None:
            why[child.id] = "what it holds is pinned there"
        else:
            why.pop(child.id, None)
            found.append(_option(case, child, room, sources))
    return found, why


def _option(case: Case, child: ChildView, room: Room, sources: list[Source]) -> Option:
    load_s = case.load_s(child)
    blocked_s = room.drain_s + case.load_left_s(child)
    standing = Standing.COLD if child.load is None else Standing.BLOCKED
    source = Source(blocked_s + load_s, case.slots(child), case.slots(child) / case.service_s(child))
    harm_s = room.harm_s * (HELD_HARM if room.held else 1.0)
    terms = case.terms(
        child,
        standing,
        wait_s=blocked_s,
        load_s=load_s,
        evict_s=harm_s / max(1, case.line.count),
        evicts=room.evicts,
    )
    wait_s = expected_wait_s(case.place, [*sources, source])
    return Option(terms, wait_s, harm_s, crowd(child, room.evicts, case.snapshot, case.memory))
