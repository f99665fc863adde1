"""Every byte read: blobs that are not what their names say, and sound ones put in their place. Blocks, for long."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from pathlib import Path

from ollamad.errors import StoreError
from ollamad.store.files import explained, replace_blob
from ollamad.store.inventory import blob_size, read
from ollamad.store.layout import BLOBS, blob_file
from ollamad.store.ways import CHUNK_BYTES, Effort


def scrub(roots: Mapping[str, Path], writing: Mapping[str, threading.Lock], effort: Effort) -> tuple[str, ...]:
    """Mend what can be mended, and say of the rest which store has it. `writing` is held while a store is changed.

    A blob that several stores share is read once.
    """
    problems: list[str] = []
    known: dict[tuple[int, int], bool] = {}
    for store, root in roots.items():
        try:
            entries = read(root).models.values()
        except StoreError as error:
            problems.append(f"{store}: {error}")
            continue
        for digest, size in sorted({blob for entry in entries if entry.manifest for blob in entry.manifest.blobs}):
            try:
                if blob_size(root, digest) == size and not _is_sound(root, digest, known, effort):
                    _mend(store, roots, digest, size, known, writing, effort)
            except StoreError as error:
                problems.append(f"{store}: {error}")
    return tuple(problems)


def _is_sound(root: Path, digest: str, known: dict[tuple[int, int], bool], effort: Effort) -> bool:
    path = root / BLOBS / blob_file(digest)
    with explained(root):
        facts = path.stat()
        identity = (facts.st_dev, facts.st_ino)
        if identity not in known:
            known[identity] = _hash_of(path, effort) == digest
        return known[identity]


def _mend(
    store: str,
    roots: Mapping[str, Path],
    digest: str,
    size: int,
    known: dict[tuple[int, int], bool],
    writing: Mapping[str, threading.Lock],
    effort: Effort,
) -> None:
    """Take another store's sound copy in place of a corrupt one. Raises StoreError where there is none."""
    for root in roots.values():
        if blob_size(root, digest) == size and _is_sound(root, digest, known, effort):
            with writing[store]:
                replace_blob(root, roots[store], digest, size, effort)
            return
    raise StoreError(f"the blob {digest[:12]} is corrupt, and no store has a sound one; pull its model again")


def _hash_of(path: Path, effort: Effort) -> str:
    """The SHA-256 of a file, in hex. Raises OSError, and StoreError when it was stopped."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            effort.go_on()
            found.update(chunk)
    return found.hexdigest()
