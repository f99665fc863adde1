"""How stores become equal: what each holds, and what each held when they last agreed, give what to do. Pure.

One model at a time, by comparing three things: what a store has, what it had, and what the others have.

- A store *changed* a model if what it has is not what it held. A change beats what was only kept.
- A store *deleted* a model if it held it and has it no more. A deletion beats copies that were only kept, and is
  remembered for stores that are away; a change made elsewhere beats it.
- Two changes are a conflict: the newest manifest wins, or the first store's (`models.conflicts`), and it is told.
- Copies that were only kept and differ are no conflict: one store missed a change, and takes it now.
- A store that has lost all of several models, or its memory, has deleted nothing: it is filled again.
- A model that can't be run (no manifest, a blob missing or cut) is not passed on; a sibling's whole one replaces it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

from ollamad.store.inventory import Entry, Inventory
from ollamad.store.memory import Memory, learned

NS = 1_000_000_000
SEVERAL = 2
"""From so many models on, the loss of all is taken for a lost disk and not for deletions."""


class Role(Enum):
    """What a store is to the others."""

    FULL = "full"
    """It gives, takes and follows: a store that children use."""
    SOURCE = "source"
    """It gives and follows, but takes nothing: the store that was in use before the configuration changed."""
    FOLLOWER = "follower"
    """It only follows deletions: such a store, later. Its links would keep deleted blobs on the disk."""


@dataclass(frozen=True, slots=True)
class Member:
    """One store, seen and remembered."""

    store: str
    inventory: Inventory
    memory: Memory = field(default_factory=Memory)
    role: Role = Role.FULL


@dataclass(frozen=True, slots=True)
class Rules:
    """What the operator decided, and the time."""

    conflicts: Literal["newest", "primary"]
    settle_s: float
    """A manifest younger than this that can't be read is being written."""
    now_s: float
    """On the wall clock, as the times of files are."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Give a store a model that another has."""

    key: str
    source: str
    target: str
    entry: Entry
    """As the source has it."""
    path: str
    """Where the target's manifest is to be."""


@dataclass(frozen=True, slots=True)
class Remove:
    """Take a model out of a store."""

    key: str
    target: str
    entry: Entry


Action = Spread | Remove


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do about one model."""

    key: str
    actions: tuple[Action, ...] = ()
    notes: tuple[str, ...] = ()
    """What an operator should know: a conflict and who won it, a model that can't be run and why."""
    digest: str | None = None
    """What all will have; None where it is to be nowhere, or can't be had."""
    deleted: bool = False
    """Whether it is to be remembered as deleted."""
    revived: bool = False
    """Whether a deletion is remembered somewhere that it has outlived: what holds it now holds it anew."""
    waiting: bool = False
    """Whether somebody is writing it: look again."""


class _Stand(Enum):
    """How one store stands to one model."""

    LACKS = "lacks"
    KEPT = "kept"
    STALE = "stale"
    """Kept, but deleted elsewhere since."""
    CHANGED = "changed"
    DELETED = "deleted"
    BROKEN = "broken"


def keys_of(members: Iterable[Member]) -> set[str]:
    """Every model that some store has, or remembers."""
    return {key for member in members for key in (*member.inventory.models, *member.memory.held)}


def trusted(memory: Memory, inventory: Inventory) -> Memory:
    """What may be made of a store's memory: a store that lost all of several models deleted none of them."""
    lost = inventory.empty and len(memory.held) >= SEVERAL
    return Memory({}, memory.deleted) if lost else memory


def plan(key: str, members: Sequence[Member], rules: Rules) -> Plan:
    """What makes the stores equal in one model. `members` are in order: the first is the primary."""
    deleted_s = max((member.memory.deleted.get(key, 0.0) for member in members), default=0.0)
    stands = {member.store: _stand(key, member, deleted_s) for member in members}
    if _being_written(key, members, stands, rules):
        return Plan(key, waiting=True)
    givers = [member for member in members if member.role is not Role.FOLLOWER]
    alive = [member for member in givers if stands[member.store] in {_Stand.KEPT, _Stand.CHANGED}]
    changed = [member for member in alive if stands[member.store] is _Stand.CHANGED]
    gone = any(stands[member.store] in {_Stand.DELETED, _Stand.STALE} for member in givers)
    if gone and not changed:
        return _removal(key, members, stands)
    if not alive:
        return Plan(key, notes=tuple(_broken(key, members, stands)))
    winner, notes = _chosen(key, changed, rules) if changed else (_latest(key, alive), ())
    return Plan(
        key,
        _spreads(key, winner, members, stands),
        (*notes, *_broken(key, members, stands)),
        digest=_digest(winner.inventory.models[key]),
        revived=deleted_s > 0,
    )


def removal(key: str, members: Sequence[Member]) -> Plan:
    """What takes a model out of every store, because somebody asked for that."""
    return _removal(key, members, {member.store: _stand(key, member, 0.0) for member in members})


def remembered(decided: Plan, member: Member, known: Memory, now_s: float) -> Memory:
    """What a store remembers once it is as the plan has it. `known` is what it remembers now, of all models."""
    entry = member.inventory.models.get(decided.key)
    own = _digest(entry) if entry else None
    digest = decided.digest if member.role is Role.FULL else own
    if decided.deleted:
        return learned(known, decided.key, None, anew=False, now_s=now_s)
    if digest is None:
        return known
    return learned(known, decided.key, digest, anew=decided.revived, now_s=now_s)


def _stand(key: str, member: Member, deleted_s: float) -> _Stand:
    entry, held = member.inventory.models.get(key), member.memory.held.get(key)
    if entry is None:
        return _Stand.LACKS if held is None else _Stand.DELETED
    if entry.fault is not None:
        return _Stand.BROKEN
    if held is None or held.digest != _digest(entry):
        return _Stand.CHANGED
    return _Stand.STALE if deleted_s > held.since_s else _Stand.KEPT


def _being_written(key: str, members: Sequence[Member], stands: dict[str, _Stand], rules: Rules) -> bool:
    return any(
        stands[member.store] is _Stand.BROKEN
        and member.inventory.models[key].manifest is None
        and rules.now_s - member.inventory.models[key].modified_ns / NS < rules.settle_s
        for member in members
    )


def _removal(key: str, members: Sequence[Member], stands: dict[str, _Stand]) -> Plan:
    """Everywhere, broken copies included; but a follower keeps what somebody else put there."""
    going = [
        member
        for member in members
        if key in member.inventory.models
        and (member.role is not Role.FOLLOWER or stands[member.store] in {_Stand.KEPT, _Stand.STALE})
    ]
    return Plan(key, tuple(Remove(key, member.store, member.inventory.models[key]) for member in going), deleted=True)


def _chosen(key: str, changed: Sequence[Member], rules: Rules) -> tuple[Member, tuple[str, ...]]:
    """The store whose change is taken, and what there is to tell."""
    by_digest: dict[str | None, list[Member]] = {}
    for member in changed:
        by_digest.setdefault(_digest(member.inventory.models[key]), []).append(member)
    newest = max(changed, key=lambda member: member.inventory.models[key].modified_ns)
    if len(by_digest) == 1:
        return newest, ()
    winner = newest if rules.conflicts == "newest" else changed[0]
    won = _digest(winner.inventory.models[key])
    losers = ", ".join(member.store for digest, each in by_digest.items() if digest != won for member in each)
    why = "is the newest" if rules.conflicts == "newest" else "comes first"
    return winner, (f"{key} was changed twice: that of {winner.store} {why} and replaces that of {losers}",)


def _latest(key: str, kept: Sequence[Member]) -> Member:
    return max(kept, key=lambda member: (member.memory.held[key].since_s, member.inventory.models[key].modified_ns))


def _spreads(key: str, winner: Member, members: Sequence[Member], stands: dict[str, _Stand]) -> tuple[Spread, ...]:
    entry = winner.inventory.models[key]
    spreads = []
    for member in members:
        there = member.inventory.models.get(key)
        same = there is not None and stands[member.store] is not _Stand.BROKEN and _digest(there) == _digest(entry)
        if member.role is Role.FULL and not same:
            spreads.append(Spread(key, winner.store, member.store, entry, there.path if there else entry.path))
    return tuple(spreads)


def _broken(key: str, members: Sequence[Member], stands: dict[str, _Stand]) -> list[str]:
    return [
        f"{key} can't be run from {member.store}: it {member.inventory.models[key].fault}"
        for member in members
        if stands[member.store] is _Stand.BROKEN
    ]


def _digest(entry: Entry) -> str | None:
    return entry.manifest.digest if entry.manifest else None
