"""Whether a model fits on a child, and what would have to go for it.

With the memory of a child's GPUs unknown, as on a CPU, the number of models that Ollama holds at once is all there is
to go by.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp
from typing import Final

from ollamad.routing.knowledge import RUNNER_BYTES
from ollamad.routing.memory import NOBODY, Memory
from ollamad.routing.snapshot import ChildView, Resident, Snapshot

HARM: Final = 2.0
"""How much what others will wait counts against what those wait who are here: it is paid again by whom that evicts."""
HORIZON_S: Final = 10.0
"""An eviction is held against a load by what happens to the evicted model within this long."""
RESIDENCE_LOADS: Final = 2.0
"""A model may stay for this many times its load before it is evicted for a rarely used one."""
UNLOAD_S: Final = 0.5
"""From telling a model to go to its memory being free (Ollama waits up to 5 s for the driver to show it)."""
CROWD_S: Final = 0.2
"""What one more model on a child is worth avoiding."""
CROWD: Final = 2.0
"""Seconds for each request that the others there have under way, on average."""


@dataclass(frozen=True, slots=True)
class Room:
    """What it takes to make room for a model on a child."""

    evicts: tuple[str, ...] = ()
    harm_s: float = 0.0
    """What the evictions will cost others: their expected waiting, all together."""
    drain_s: float = 0.0
    """Until what must go is gone: requests may still be in it."""
    held: bool = False
    """Something that must go has not stayed its time yet."""


def needed_bytes(model: str, child: ChildView, memory: Memory) -> int:
    """What a model takes on this child's GPUs, all its slots included."""
    knowledge = memory.knowledge
    slots = knowledge.slots(model, child.slots)
    return knowledge.vram_bytes(model, memory.rules.context_tokens * slots)


def is_too_large(model: str, child: ChildView, memory: Memory) -> bool:
    """Whether it would not fit even on an empty child."""
    return child.memory_bytes is not None and needed_bytes(model, child, memory) > child.memory_bytes


def make_room(model: str, child: ChildView, snapshot: Snapshot, memory: Memory) -> Room | None:
    """The least harmful way to have room; None where pinned models leave none."""
    free = _free_bytes(child, memory)
    needed = needed_bytes(model, child, memory)
    others = [resident for resident in child.residents if resident.model != model]
    own = next((resident for resident in child.residents if resident.model == model), None)
    gone: list[Resident] = [] if own is None else [own]  # in another shape: one model has one runner
    if free is not None and own is not None:
        free += _resident_bytes(own, child, memory)
    ranked = sorted(
        (resident for resident in others if not memory.rule(resident.model).pin),
        key=lambda resident: harm_of(resident, child, snapshot, memory),
    )
    too_large = is_too_large(model, child, memory)  # spills over to the CPU; best with the GPU to itself
    while len(others) >= child.models_max or (free is not None and free < needed):
        if not ranked:
            return _room(gone, child, snapshot, memory) if too_large and not others else None
        victim = ranked.pop(0)
        gone.append(victim)
        others.remove(victim)
        if free is not None:
            free += _resident_bytes(victim, child, memory)
    return _room(gone, child, snapshot, memory)


def harm_of(resident: Resident, child: ChildView, snapshot: Snapshot, memory: Memory) -> float:
    """Seconds that others will wait for losing it; the less, the more free slots the other copies have, if any."""
    model = resident.model
    harm_s = worth_of(model, resident.shape, child, snapshot, memory)
    others = snapshot.copies(model) - 1
    if others < 1:
        return harm_s
    knowledge = memory.knowledge
    under_way = memory.model_demand_per_s(model, snapshot.taken_at_s) * knowledge.service_s(model, child.kind)
    return harm_s * min(1.0, under_way / (others * knowledge.slots(model, child.slots))) ** 2


def worth_of(model: str, shape: str, child: ChildView, snapshot: Snapshot, memory: Memory) -> float:
    """Seconds of waiting that its being there saves: the chance that it is asked for soon, by what loading takes."""
    name = ("worth", model, shape, child.kind)
    found_s = snapshot.derived.get(name)
    if found_s is None:
        found_s = snapshot.derived[name] = _worth_s(model, shape, child.kind, snapshot, memory)
    return found_s


def _worth_s(model: str, shape: str, kind: str, snapshot: Snapshot, memory: Memory) -> float:
    now_s = snapshot.taken_at_s
    load_s = memory.knowledge.load_s(model, kind, now_s)
    asked_per_s = memory.model_demand_per_s(model, now_s)
    line = memory.lines.get((model, shape), NOBODY)
    asked = 1.0 - exp(-asked_per_s * HORIZON_S) + line.count
    return HARM * asked * load_s * (1.0 + asked_per_s * load_s)


def crowd(child: ChildView, but: tuple[str, ...], snapshot: Snapshot, memory: Memory) -> float:
    """Seconds that the company of the other models there is worth: the requests that they will have under way.

    Each resident counts a little even where it is never asked for, so that models spread before anything is known.
    """
    found_s = 0.0
    for resident in child.residents:
        if resident.model not in but:
            per_s = memory.model_demand_per_s(resident.model, snapshot.taken_at_s)
            per_s /= max(1, snapshot.copies(resident.model))
            found_s += CROWD_S + CROWD * per_s * memory.knowledge.service_s(resident.model, child.kind)
    return found_s


def _room(gone: list[Resident], child: ChildView, snapshot: Snapshot, memory: Memory) -> Room:
    now_s = snapshot.taken_at_s
    knowledge = memory.knowledge
    drain_s, held = 0.0, False
    for resident in gone:
        busy = child.busy.get(resident.model, 0)
        if busy:
            service_s = knowledge.service_s(resident.model, child.kind)
            drain_s = max(drain_s, service_s * sum(1.0 / number for number in range(1, busy + 1)))
        stays_s = RESIDENCE_LOADS * knowledge.load_s(resident.model, child.kind, now_s)
        used = memory.model_demand_per_s(resident.model, now_s) > 0
        held = held or (used and resident.since_s is not None and now_s - resident.since_s < stays_s)
    harm_s = sum(harm_of(resident, child, snapshot, memory) for resident in gone)
    return Room(tuple(resident.model for resident in gone), harm_s, drain_s + UNLOAD_S * len(gone), held)


def _free_bytes(child: ChildView, memory: Memory) -> int | None:
    if child.memory_bytes is None:
        return None
    return child.memory_bytes - sum(_resident_bytes(resident, child, memory) for resident in child.residents)


def _resident_bytes(resident: Resident, child: ChildView, memory: Memory) -> int:
    if resident.vram_bytes:
        return resident.vram_bytes + RUNNER_BYTES
    return needed_bytes(resident.model, child, memory)
