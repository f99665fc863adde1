"""How much room there is on the disks of stores. Blocks."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ollamad.config.checks import nearest_there


@dataclass(frozen=True, slots=True)
class Disk:
    """A file system on which there are stores."""

    root: Path
    """The first of these stores."""
    free_bytes: int
    """What a user without privileges may still write."""


def disks(roots: Iterable[Path]) -> tuple[Disk, ...]:
    """Each disk once. One that can't be asked is left out: whoever uses the store says why."""
    found: dict[int, Disk] = {}
    for root in roots:
        with suppress(OSError):
            there = nearest_there(root)
            device = there.stat().st_dev
            if device not in found:
                found[device] = Disk(root, shutil.disk_usage(there).free)
    return tuple(found.values())
