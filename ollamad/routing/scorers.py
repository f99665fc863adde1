"""The terms of the cost: expected seconds to the first token, each by a small function of its own.

What else should count against a child is one more row of `PRESSURES`.
"""

from __future__ import annotations

from typing import Final, Protocol

from ollamad.routing.decision import Standing
from ollamad.routing.memory import Memory
from ollamad.routing.prefixes import BLOCK_BYTES
from ollamad.routing.request import Request, Work
from ollamad.routing.snapshot import ChildView

COMPANY: Final = 0.35
"""How much slower a prompt is read for each other request on the child: they share its GPU."""
COMPANY_MIN_S: Final = 0.02
COMPANY_MAX_S: Final = 2.0
FOREIGN_MAX_S: Final = 0.3
HOT_C: Final = 84
HOT_S: Final = 0.2
"""Against a GPU whose clocks are held down by heat or power; by its temperature where the driver does not say."""
WIDE_S: Final = 0.1
"""Held against a child of several GPUs, so that it is left to models that fit on no single one."""


def standing_of(request: Request, child: ChildView, slots: int) -> Standing:
    """How this child stands to this request. `slots`: how many of this kind of work its runner takes at once."""
    load = child.load
    if load is not None:
        if load.model == request.model:
            return Standing.LOADING if load.shape == request.shape else Standing.BLOCKED
        if request.model in load.evicts:
            return Standing.BLOCKED
    for resident in child.residents:
        if resident.model == request.model:
            if resident.shape != request.shape:
                break
            return Standing.READY if child.busy.get(resident.model, 0) < slots else Standing.FULL
    return Standing.COLD if load is None else Standing.BLOCKED


def prefill_s(request: Request, child: ChildView, per_s: float, tokens: float, memory: Memory) -> float:
    """To read the part of the prompt that no slot there holds."""
    if not request.prefix or request.model is None:
        return tokens / per_s
    held = memory.prefixes.held_blocks(child.id, child.life, request.model, request.prefix)
    if not held:
        return tokens / per_s
    new_bytes = max(0, request.prompt_bytes - held * BLOCK_BYTES)
    return tokens * new_bytes / max(1, request.prompt_bytes) / per_s


class Scorer(Protocol):
    """One reason why the first token comes later from a child, as seconds; 0 where it does not hold.

    Pure, and cheap: every decision asks it of every child that could take the request. docs/EXTENDING.md adds one.
    """

    def __call__(self, request: Request, child: ChildView, prefill: float, stale_before_s: float, /) -> float:
        """`prefill`: seconds to read the whole prompt there. A sample from before `stale_before_s` says nothing."""


def company_s(_request: Request, child: ChildView, prefill: float, _stale_before_s: float, /) -> float:
    """Other requests on the child."""
    return min(COMPANY_MAX_S, child.in_flight * max(COMPANY_MIN_S, COMPANY * prefill)) if child.in_flight else 0.0


def gpus_s(_request: Request, child: ChildView, _prefill: float, stale_before_s: float, /) -> float:
    """Work on its GPUs that is not ours, and heat.

    A busy GPU is no news while our own requests are on it: one stream alone reads as 100 %.
    """
    found = 0.0
    for gpu in child.gpus:
        if gpu.sampled_at_s is None or gpu.sampled_at_s < stale_before_s:
            continue
        if not child.in_flight:
            smoothed = gpu.utilization_smoothed_percent
            found += FOREIGN_MAX_S * ((gpu.utilization_percent if smoothed is None else smoothed) or 0) / 100
        if gpu.throttled if gpu.throttled is not None else (gpu.temperature_c or 0) >= HOT_C:
            found += HOT_S
    return found


def wide_s(request: Request, child: ChildView, _prefill: float, _stale_before_s: float, /) -> float:
    """Several GPUs: see `WIDE_S`."""
    return WIDE_S if len(child.gpus) > 1 and request.work is Work.GENERATE else 0.0


PRESSURES: Final[tuple[Scorer, ...]] = (company_s, gpus_s, wide_s)
"""What makes up the term `pressure`."""


def pressure_s(request: Request, child: ChildView, prefill: float, stale_before_s: float) -> float:
    """All that slows a child beside loading, waiting and the prompt itself."""
    found = 0.0
    for scorer in PRESSURES:
        found += scorer(request, child, prefill, stale_before_s)
    return found
