"""Copies that nobody waits for: those that the operator wants are loaded, those that have gone cold are unloaded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from ollamad.routing.filters import candidates
from ollamad.routing.memory import Memory
from ollamad.routing.request import Need, Request
from ollamad.routing.room import is_too_large, make_room, worth_of
from ollamad.routing.snapshot import ChildView, Resident, Snapshot

RESTORE: Final = 3.0
"""What comes back unasked must be worth this many times what goes for it."""
RECENT_S: Final = 100.0
"""A model not asked for within this long is left alone: Ollama's keep-alive may have ended it, as it should."""
RESTORE_MIN_S: Final = 0.5
"""And this much in any case."""
RESTORE_IDLE_S: Final = 3.0
"""What goes for it must have been idle for this long."""
SPREAD: Final = 0.4
"""Requests under way per copy, on average, from which a further copy is worth the room that nobody needs."""
COLD_S: Final = 60.0
"""A copy that had no request for this long is not needed, if the others can do its work."""
SPARE: Final = 0.5
"""The others must then have less to do than this share of what would make another copy worth it."""


@dataclass(frozen=True, slots=True)
class WantedLoad:
    """Load this model there."""

    child: ChildView
    model: str
    evicts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WantedUnload:
    """Unload this model there."""

    child: ChildView
    model: str


def wanted_loads(snapshot: Snapshot, memory: Memory) -> Iterator[WantedLoad]:
    """The copies that are asked for and are not there."""
    taken: set[str] = set()
    for model in sorted(memory.rules.models):
        if _is_hopeless(model, snapshot, memory):
            continue
        rule = memory.rule(model)
        wanted = max(rule.min_replicas, int(rule.pin))
        missing = wanted - sum(has_or_loads(child, model) for child in snapshot.children)
        for _ in range(missing):
            load = _where(model, snapshot, memory, taken)
            if load is None:
                break
            taken.add(load.child.id)
            yield load


def _is_hopeless(model: str, snapshot: Snapshot, memory: Memory) -> bool:
    """Whether no store has this model as far as is known, or a child has just refused to load it."""
    stored = memory.knowledge.files_bytes
    return bool(stored and model not in stored) or memory.is_refused((model, ""), snapshot.taken_at_s)


def has_or_loads(child: ChildView, model: str) -> bool:
    """Whether this child has a model, or will."""
    return (child.load is not None and child.load.model == model) or any(
        held.model == model for held in child.residents
    )


def _where(model: str, snapshot: Snapshot, memory: Memory, taken: set[str]) -> WantedLoad | None:
    request = Request(Need.RUNNER, model)
    fit, _, resting = candidates(request, snapshot.children, memory, snapshot.taken_at_s)
    if resting:
        return None
    could = [child for child in fit if child.load is None and child.id not in taken and not has_or_loads(child, model)]
    could = [child for child in could if not is_too_large(model, child, memory)] or could
    rooms = [(room, child) for child in could if (room := make_room(model, child, snapshot, memory)) is not None]
    if not rooms:
        return None
    room, child = min(rooms, key=lambda pair: (pair[0].harm_s, len(pair[1].residents), -(pair[1].memory_bytes or 0)))
    return WantedLoad(child, model, room.evicts)


def worthwhile_load(snapshot: Snapshot, memory: Memory) -> WantedLoad | None:
    """One load that nobody waits for yet and that will probably be waited for: at most one at a time is under way.

    A model that is asked for often and had to go comes back in the place of one that is asked for rarely; and a busy
    one gets a copy where there is room that nobody needs.
    """
    if memory.lines or any(child.load is not None for child in snapshot.children):
        return None
    now_s = snapshot.taken_at_s
    asked = sorted(memory.models_asked(now_s - RECENT_S), key=lambda model: -memory.model_demand_per_s(model, now_s))
    for model in asked:
        have = sum(has_or_loads(child, model) for child in snapshot.children)
        wanted = _restored(model, snapshot, memory) if not have else _spread(model, have, snapshot, memory)
        if wanted is not None and wanted.child.memory_bytes is not None:  # what room there is must be known
            return wanted
    return None


def _restored(model: str, snapshot: Snapshot, memory: Memory) -> WantedLoad | None:
    wanted = _where(model, snapshot, memory, set())
    if wanted is None:
        return None
    child, now_s = wanted.child, snapshot.taken_at_s
    room = make_room(model, child, snapshot, memory)
    gain_s = worth_of(model, "", child, snapshot, memory)
    if (
        room is None
        or room.held
        or _is_used(child, room.evicts)
        or gain_s < RESTORE_MIN_S
        or gain_s < RESTORE * room.harm_s
    ):
        return None
    idle_s = min((now_s - memory.used_s.get((child.id, child.life, gone), 0.0) for gone in room.evicts), default=now_s)
    return wanted if idle_s >= RESTORE_IDLE_S else None


def _is_used(child: ChildView, models: tuple[str, ...]) -> bool:
    return any(child.busy.get(model, 0) for model in models)


def _spread(model: str, have: int, snapshot: Snapshot, memory: Memory) -> WantedLoad | None:
    most = memory.rule(model).max_replicas
    if (most is not None and have >= most) or have >= len(snapshot.children):
        return None
    kind = next(child.kind for child in snapshot.children if has_or_loads(child, model))
    under_way = memory.model_demand_per_s(model, snapshot.taken_at_s) * memory.knowledge.service_s(model, kind)
    if under_way / have < SPREAD:
        return None
    wanted = _where(model, snapshot, memory, set())
    return wanted if wanted is not None and not wanted.evicts else None


def cold_copies(snapshot: Snapshot, memory: Memory) -> Iterator[WantedUnload]:
    """Copies beyond the first that are of no use now; at most one of each model at a time."""
    seen: set[str] = set()
    for child in snapshot.children:
        for resident in child.residents:
            if resident.model not in seen and child.routable and _is_cold(child, resident, snapshot, memory):
                seen.add(resident.model)
                yield WantedUnload(child, resident.model)


def _is_cold(child: ChildView, resident: Resident, snapshot: Snapshot, memory: Memory) -> bool:
    model, now_s = resident.model, snapshot.taken_at_s
    rule = memory.rule(model)
    others = [other for other in snapshot.children if other is not child and _holds(other, model)]
    if len(others) < max(1, rule.min_replicas) or child.busy.get(model, 0):
        return False
    last_s = max(memory.used_s.get((child.id, child.life, model), 0.0), resident.since_s or 0.0)
    if now_s - last_s < COLD_S:
        return False
    under_way = memory.model_demand_per_s(model, now_s) * memory.knowledge.service_s(model, child.kind)
    return under_way / len(others) < SPREAD * SPARE


def _holds(child: ChildView, model: str) -> bool:
    return child.routable and any(held.model == model for held in child.residents)
