"""Which GPUs get a child: the operator's words, held against what is there. Pure.

A selector is an index (int), a UUID or the beginning of one ("GPU-1a2b"), or a pattern of the GPU's name ("*A100*");
letter case never matters. Three rules decide:

- `groups` come first. A group is one wide child over all of its GPUs, whether `include` has them or not. A group that
  lacks one of its GPUs gets no child: it was made wide for models that would not fit on fewer. Those of its GPUs that
  are there count as if there were no such group.
- `exclude` wins over `include`. Over a group it wins nothing: that is a contradiction, and only its author can mend it.
- Every other included GPU is a child of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal

from ollamad.gpu.model import Gpu, Inventory

Selector = int | str


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the configuration says, `gpus.include`, `gpus.exclude` and `gpus.groups`."""

    include: Literal["all"] | tuple[Selector, ...] = "all"
    exclude: tuple[Selector, ...] = ()
    groups: tuple[tuple[Selector, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Pinned:
    """One child, and the GPUs that it is to have."""

    id: str
    """`gpu0`, or `gpu2+3` for a wide child."""
    gpus: tuple[Gpu, ...]
    """At least one, by index."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What was decided."""

    pinned: tuple[Pinned, ...]
    """By the lowest index of each; no GPU is in two of them."""
    warnings: tuple[str, ...]
    """What the operator named and did not get, one sentence each; the rest goes on."""
    problems: tuple[str, ...]
    """Contradictions that the operator must mend, one sentence each. `pinned` has nothing that takes part in one."""


def select(inventory: Inventory, wanted: Wanted) -> Selection:
    """Decide the children. Total: what can't be had is said in the result."""
    search = _Search(inventory.gpus)
    included = set(inventory.gpus) if wanted.include == "all" else search.union("gpus.include", wanted.include)
    excluded = search.union("gpus.exclude", wanted.exclude)
    wide = _wide(search, wanted.groups, excluded)
    in_groups = {gpu for pinned in wide for gpu in pinned.gpus}
    singles = [_pin({gpu}) for gpu in included - excluded - in_groups - search.disputed]
    pinned = sorted([*wide, *singles], key=lambda child: child.gpus[0].index)
    return Selection(tuple(pinned), tuple(search.warnings), tuple(search.problems))


@dataclass(slots=True)
class _Search:
    """Looks selectors up, and takes down what is wrong with them."""

    gpus: tuple[Gpu, ...]
    warnings: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    disputed: set[Gpu] = field(default_factory=set)
    """GPUs that a problem is about."""

    def union(self, key: str, selectors: Sequence[Selector]) -> set[Gpu]:
        """The GPUs that any of these selectors names."""
        return set().union(*self.each(key, selectors))

    def each(self, key: str, selectors: Sequence[Selector]) -> list[set[Gpu]]:
        """The GPUs of each selector; none for one that names no GPU, or is ambiguous."""
        return [self._one(f"{key}[{number}]", selector) for number, selector in enumerate(selectors)]

    def _one(self, key: str, selector: Selector) -> set[Gpu]:
        found = _matching(selector, self.gpus)
        if not found:
            there = ", ".join(f"{gpu.index} ({gpu.name}, {gpu.uuid})" for gpu in self.gpus)
            self.warnings.append(f"{key} = {_shown(selector)} names no GPU of this machine; it has {there or 'none'}")
        if len(found) > 1 and _is_uuid(selector):
            uuids = ", ".join(gpu.uuid for gpu in found)
            self.problems.append(f"{key} = {_shown(selector)} is the beginning of several UUIDs: {uuids}")
            self.disputed.update(found)
            return set()
        return set(found)


def _wide(search: _Search, groups: Sequence[Sequence[Selector]], excluded: set[Gpu]) -> list[Pinned]:
    """The children of those groups that are whole and free of contradictions."""
    keys = [f"gpus.groups[{number}]" for number in range(len(groups))]
    parts = [search.each(key, selectors) for key, selectors in zip(keys, groups, strict=True)]
    members = [set[Gpu]().union(*part) for part in parts]
    _dispute(search, keys, members, excluded)
    wide: list[Pinned] = []
    for key, part, gpus in zip(keys, parts, members, strict=True):
        if not gpus:
            search.warnings.append(f"{key} has no GPU, and gets no child")
        elif not all(part):
            search.warnings.append(f"{key} lacks a GPU, and gets no child: its models would not fit on fewer")
        elif not gpus & search.disputed:
            wide.append(_pin(gpus))
    return wide


def _dispute(search: _Search, keys: Sequence[str], members: Sequence[set[Gpu]], excluded: set[Gpu]) -> None:
    """Take down each GPU that two groups name, or that is in a group and excluded."""
    for gpu in search.gpus:
        naming = [key for key, gpus in zip(keys, members, strict=True) if gpu in gpus]
        if naming and gpu in excluded:
            naming.append("gpus.exclude")
        if len(naming) > 1:
            search.problems.append(f"GPU {gpu.index} ({gpu.uuid}) may be in only one of {' and '.join(naming)}")
            search.disputed.add(gpu)


def _pin(gpus: set[Gpu]) -> Pinned:
    ordered = tuple(sorted(gpus, key=lambda gpu: gpu.index))
    return Pinned("gpu" + "+".join(str(gpu.index) for gpu in ordered), ordered)


def _matching(selector: Selector, gpus: Sequence[Gpu]) -> list[Gpu]:
    """All GPUs that fit. A whole UUID fits only its own GPU, although others may begin with it."""
    if isinstance(selector, int):
        return [gpu for gpu in gpus if gpu.index == selector]
    low = selector.lower()
    if not _is_uuid(selector):
        return [gpu for gpu in gpus if fnmatchcase(gpu.name.lower(), low)]
    exact = [gpu for gpu in gpus if gpu.uuid.lower() == low]
    return exact or [gpu for gpu in gpus if gpu.uuid.lower().startswith(low)]


def _is_uuid(selector: Selector) -> bool:
    return isinstance(selector, str) and selector.lower().startswith(("gpu-", "mig-"))


def _shown(selector: Selector) -> str:
    return str(selector) if isinstance(selector, int) else f'"{selector}"'
