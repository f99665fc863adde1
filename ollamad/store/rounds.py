"""A round over the stores: look, decide, do, remember. Blocks; meant for a thread, one call for one model.

`plan.py` decides. What fails in one store is told and left for the next round, and stops nothing in the others.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from ollamad.errors import StoreError
from ollamad.store import memory as memories
from ollamad.store.files import (
    clear_left,
    explained,
    make_folders,
    place_blob,
    remove_manifest,
    write_manifest,
)
from ollamad.store.inventory import blob_size, has_partials, raw_manifest, read
from ollamad.store.layout import BLOBS, blob_file
from ollamad.store.plan import (
    Action,
    Member,
    Plan,
    Remove,
    Role,
    Rules,
    Spread,
    keys_of,
    plan,
    remembered,
    removal,
    trusted,
)
from ollamad.store.scrub import scrub
from ollamad.store.ways import Effort, Way


@dataclass(frozen=True, slots=True)
class Store:
    """One store: where it is, and what it is to the others."""

    id: str
    """The child that uses it; `shared` for the one that all use."""
    root: Path
    role: Role = Role.FULL


@dataclass(frozen=True, slots=True)
class Settled:
    """What came of one model."""

    plan: Plan
    problems: tuple[str, ...] = ()
    """Why some store is not as it should be, each with the store's name."""
    ways: Counter[Way] = field(default_factory=Counter)
    """How many blobs came into a store in which way."""

    @property
    def everywhere(self) -> bool:
        """Whether every store has it, whole."""
        return self.plan.digest is not None and not self.problems

    @property
    def nowhere(self) -> bool:
        """Whether no store has it."""
        return self.plan.digest is None and not self.plan.notes and not self.problems


@dataclass(frozen=True, slots=True)
class Survey:
    """All stores at one time."""

    models: dict[str, frozenset[str]]
    """For each model (`names.Name.key`), the stores in use that have it whole."""
    unequal: tuple[str, ...]
    """The models with something to do, to tell or to remember."""
    problems: tuple[str, ...]
    """The stores that could not be looked at."""


class Rounds:
    """The stores of this run. Its methods may run in several threads at once, for different models."""

    def __init__(self, stores: Sequence[Store], rules: Rules, forget_s: float) -> None:
        self.stores: tuple[Store, ...] = ()
        self._rules = rules
        self._forget_s = forget_s
        self._remembering = threading.Lock()
        self._writing: dict[str, threading.Lock] = {}
        self._roots: dict[str, Path] = {}
        self.use(stores)

    def use(self, stores: Sequence[Store]) -> None:
        """From now on look after these stores; what runs goes on with those that it began with."""
        self._roots |= {store.id: store.root for store in stores}
        self._writing |= {store.id: threading.Lock() for store in stores if store.id not in self._writing}
        self.stores = tuple(stores)

    def clear(self) -> None:
        """Clear away what a crash left half made; before anything else is asked."""
        for store in self.stores:
            with self._complained([], store.id):
                clear_left(store.root)

    def where(self, key: str) -> frozenset[str]:
        """The stores in use that have one model whole."""
        return _having(key, self._members(key)[0])

    def survey(self, now_s: float) -> Survey:
        """Look at everything."""
        members, problems = self._members(None)
        rules = replace(self._rules, now_s=now_s)
        keys = sorted(keys_of(members))
        plans = {key: plan(key, members, rules) for key in keys}
        return Survey(
            models={key: _having(key, members) for key in keys if _having(key, members)},
            unequal=tuple(key for key in keys if _unequal(key, plans[key], members)),
            problems=problems,
        )

    def settle(self, key: str, effort: Effort, now_s: float, *, delete: bool = False, tidy: bool = True) -> Settled:
        """Make all stores equal in one model; with `delete`, in having it no more.

        `tidy`: take away the blobs that a removal leaves unneeded; not while something else is being made of them.
        """
        members, unseen = self._members(key)
        decided = removal(key, members) if delete else plan(key, members, replace(self._rules, now_s=now_s))
        problems, ways, failed = list(unseen), Counter[Way](), set[str]()
        for action in decided.actions:
            try:
                with self._writing[action.target]:
                    ways += self._perform(action, effort, tidy=tidy)
            except StoreError as error:
                failed.add(action.target)
                problems.append(f"{action.target}: {error}")
        if not decided.waiting and len(self.stores) > 1:
            problems += self._remember(decided, [member for member in members if member.store not in failed], now_s)
        return Settled(decided, tuple(problems), ways)

    def bring_blobs(self, target: str, digests: Sequence[str], effort: Effort) -> None:
        """Let one store have blobs that another has: what was uploaded to one child. Raises StoreError."""
        for digest in digests:
            if blob_size(self._roots[target], digest) is not None:
                continue
            for store in self.stores:
                size = blob_size(store.root, digest)
                if size is not None:
                    with self._writing[target]:
                        place_blob(store.root, self._roots[target], digest, size, effort)
                    break

    def corrupt(self, effort: Effort) -> tuple[str, ...]:
        """Read every blob that a model needs; mend what is not what its name says, or tell. Takes long."""
        return scrub({store.id: store.root for store in self.stores}, self._writing, effort)

    def _members(self, only: str | None) -> tuple[list[Member], tuple[str, ...]]:
        """Every store that can be looked at, and why others can't."""
        members: list[Member] = []
        problems: list[str] = []
        for store in self.stores:
            with self._complained(problems, store.id):
                if len(self.stores) > 1 and store.role is Role.FULL:
                    make_folders(store.root)
                inventory = read(store.root, only)
                with self._remembering:
                    known = memories.load(store.root)
                    memory = trusted(known, inventory)
                    if memory is not known:
                        self._save(store.root, memory, 0.0)
                members.append(Member(store.id, inventory, memory, store.role))
        return members, tuple(problems)

    @contextmanager
    def _complained(self, problems: list[str], store: str) -> Iterator[None]:
        try:
            yield
        except StoreError as error:
            problems.append(f"{store}: {error}")

    def _perform(self, action: Action, effort: Effort, *, tidy: bool) -> Counter[Way]:
        target = self._roots[action.target]
        if isinstance(action, Remove):
            _remove(action, target, tidy=tidy)
            return Counter()
        return _spread(action, self._roots[action.source], target, effort)

    def _remember(self, decided: Plan, members: Sequence[Member], now_s: float) -> list[str]:
        problems: list[str] = []
        for member in members:
            with self._complained(problems, member.store), self._remembering:
                root = self._roots[member.store]
                known = memories.load(root)
                fresh = remembered(decided, member, known, now_s)
                if fresh != known:
                    self._save(root, fresh, now_s - self._forget_s)
        return problems

    def _save(self, root: Path, memory: memories.Memory, forget_before_s: float) -> None:
        with explained(root):
            memories.save(root, memory, forget_before_s)


def _having(key: str, members: Sequence[Member]) -> frozenset[str]:
    return frozenset(
        member.store
        for member in members
        if member.role is Role.FULL and (entry := member.inventory.models.get(key)) and entry.fault is None
    )


def _unequal(key: str, decided: Plan, members: Sequence[Member]) -> bool:
    """Whether a round has anything to do for a model; memories that lag behind count, when there are several."""
    if decided.actions or decided.notes or decided.waiting or decided.deleted:
        return True
    known = [member for member in members if member.role is Role.FULL]
    return len(members) > 1 and any(
        member.memory.held.get(key) is None or member.memory.held[key].digest != decided.digest for member in known
    )


def _spread(action: Spread, source: Path, target: Path, effort: Effort) -> Counter[Way]:
    """Blobs first, the manifest last: cut off anywhere, the target has the model whole or as before."""
    manifest = action.entry.manifest
    with explained(source):
        raw = raw_manifest(source, action.entry.path)
    if manifest is None or hashlib.sha256(raw).hexdigest() != manifest.digest:
        raise StoreError(f"{action.key} was changed in {action.source} just now; the next round takes it")
    ways = Counter(place_blob(source, target, digest, size, effort) for digest, size in manifest.blobs)
    write_manifest(target, action.path, raw, action.entry.modified_ns)
    return ways


def _remove(action: Remove, root: Path, *, tidy: bool) -> None:
    remove_manifest(root, action.entry.path)
    left = read(root).models.values()
    if not tidy or action.entry.manifest is None or has_partials(root) or any(not entry.manifest for entry in left):
        return  # a prune takes what is left, when nothing is being made of it
    needed = {digest for entry in left if entry.manifest for digest, _ in entry.manifest.blobs}
    with explained(root):
        for digest, _ in action.entry.manifest.blobs:
            if digest not in needed:
                (root / BLOBS / blob_file(digest)).unlink(missing_ok=True)
