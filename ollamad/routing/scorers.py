"""The terms of the cost: expected seconds to the first token, each by a small function of its own."""

from __future__ import annotations

from typing import Final

from ollamad.routing.decision import Standing
from ollamad.routing.memory import Memory
from ollamad.routing.prefixes import BLOCK_BYTES
from ollamad.routing.request import Request, Work
from ollamad.routing.snapshot import ChildView, GpuView

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


def pressure_s(request: Request, child: ChildView, prefill: float, stale_before_s: float) -> float:
    """What else slows it: other requests on the child, work that is not ours, heat."""
    company = child.in_flight * max(COMPANY_MIN_S, COMPANY * prefill) if child.in_flight else 0.0
    found = min(COMPANY_MAX_S, company)
    for gpu in child.gpus:
        if gpu.sampled_at_s is not None and gpu.sampled_at_s >= stale_before_s:
            found += _gpu_pressure_s(gpu, child)
    if len(child.gpus) > 1 and request.work is Work.GENERATE:
        found += WIDE_S
    return found


def _gpu_pressure_s(gpu: GpuView, child: ChildView) -> float:
    """A busy GPU is no news while our own requests are on it: one stream alone reads as 100 %."""
    percent = gpu.utilization_percent if gpu.utilization_smoothed_percent is None else gpu.utilization_smoothed_percent
    foreign_s = 0.0 if child.in_flight else FOREIGN_MAX_S * (percent or 0) / 100
    throttled = gpu.throttled if gpu.throttled is not None else (gpu.temperature_c or 0) >= HOT_C
    return foreign_s + (HOT_S if throttled else 0.0)
