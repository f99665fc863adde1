"""What a store held when all stores last agreed, so that a deletion is told from a model that never came.

It lies in the store itself. A store that is wiped, or a disk that is swapped or not mounted, so forgets it together
with its models, and no empty folder is taken for the wish to delete everything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from ollamad.store.layout import OURS

FILE: Final = "held.json"
DELETED_MAX: Final = 10_000


class Held(msgspec.Struct, frozen=True):
    """A model that a store held."""

    digest: str
    since_s: float
    """When it was first seen with this digest, on the wall clock."""


class _File(msgspec.Struct):
    held: dict[str, Held] = {}
    deleted: dict[str, float] = {}


@dataclass(frozen=True, slots=True)
class Memory:
    """What one store remembers."""

    held: Mapping[str, Held] = field(default_factory=dict)
    deleted: Mapping[str, float] = field(default_factory=dict)
    """When each model was deleted everywhere, on the wall clock: for stores that were away then."""


def load(root: Path) -> Memory:
    """What the store remembers: nothing, where it has no memory or it can't be read."""
    try:
        found = msgspec.json.decode((root / OURS / FILE).read_bytes(), type=_File)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return Memory()
    return Memory(found.held, found.deleted)


def save(root: Path, memory: Memory, forget_before_s: float) -> None:
    """Write it, whole or not at all; deletions older than `forget_before_s` are let go. Raises OSError.

    Not synced: a memory that a power cut takes only makes the next round more careful.
    """
    recent = sorted(((at_s, key) for key, at_s in memory.deleted.items() if at_s >= forget_before_s), reverse=True)
    file = _File(dict(memory.held), {key: at_s for at_s, key in recent[:DELETED_MAX]})
    folder = root / OURS
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / f"{FILE}.new"
    fresh.write_bytes(msgspec.json.encode(file))
    fresh.replace(folder / FILE)


def learned(memory: Memory, key: str, digest: str | None, *, anew: bool, now_s: float) -> Memory:
    """The memory of a store that came to hold this of one model, or (None) saw it deleted everywhere.

    `anew`: a deletion of it may still be remembered elsewhere, which what is held from now on is safe from.
    """
    held = {other: what for other, what in memory.held.items() if other != key}
    deleted = {other: at_s for other, at_s in memory.deleted.items() if other != key}
    before = memory.held.get(key)
    if digest is None:
        deleted[key] = now_s
    elif before is None or before.digest != digest or anew:
        held[key] = Held(digest, now_s)
    else:
        held[key] = before
    return Memory(held, deleted)
