"""What lies in a store and nobody needs: blobs that no manifest names, and downloads that were given up. Blocks.

Ollama prunes when it starts and takes itself for the only one. Its children must not (`OLLAMA_NOPRUNE`), so this does
it in their place, while nothing else changes the store.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ollamad.errors import StoreError
from ollamad.store.files import explained
from ollamad.store.inventory import blob_files, read
from ollamad.store.layout import BLOBS, blob_file, blob_of_file

BLOCK_BYTES = 512
"""The unit of `st_blocks`, whatever the file system's own."""


@dataclass(frozen=True, slots=True)
class Waste:
    """One file that nobody needs."""

    path: Path
    partial: bool
    """A download that was not finished, or a blob that was not."""
    disk_bytes: int
    """What it takes on the disk: less than its size where it is sparse."""
    identity: tuple[int, int]
    """Device and inode: hard links of one file take its bytes once."""
    age_s: float
    """Since it, or another part of the same download, was last written to."""


def find_waste(root: Path, now_s: float) -> tuple[Waste, ...]:
    """What no model needs, with its age: of what is young a model may be about to be made.

    Raises StoreError where a manifest can't be read: what it needs is not known then.
    """
    needed: set[str] = set()
    for entry in read(root).models.values():
        if entry.manifest is None:
            raise StoreError(f"nothing is pruned: the manifest {root}/manifests/{entry.path} {entry.fault}; delete it")
        needed |= {blob_file(digest) for digest, _ in entry.manifest.blobs}
    files = {name: facts for name, facts in blob_files(root).items() if name.startswith("sha256-")}
    touched_s: dict[str, float] = {}
    for name, facts in files.items():  # a download is as young as the youngest of its parts
        download = name.partition("-partial")[0]
        touched_s[download] = max(touched_s.get(download, 0.0), facts.st_mtime)
    return tuple(
        Waste(
            root / BLOBS / name,
            partial=blob_of_file(name) is None,
            disk_bytes=facts.st_blocks * BLOCK_BYTES,
            identity=(facts.st_dev, facts.st_ino),
            age_s=now_s - touched_s[name.partition("-partial")[0]],
        )
        for name, facts in sorted(files.items())
        if name not in needed
    )


def remove_waste(found: Iterable[Waste]) -> None:
    """Take it away. Raises StoreError."""
    for waste in found:
        with explained(waste.path.parent.parent):
            waste.path.unlink(missing_ok=True)


def disk_bytes(found: Iterable[Waste]) -> int:
    """What it takes on the disk, all together."""
    return sum({waste.identity: waste.disk_bytes for waste in found}.values())
