"""Blobs and manifests put into a store, each whole or not at all. Blocks.

A blob comes in the first of the ways (`ways.py`) that leads there. A manifest is always a file of its own, as Ollama
writes manifests in place: a linked one would change in every store. All is made under a temporary name in `.ollamad/`
and renamed.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from ollamad.errors import StoreError
from ollamad.store.layout import BLOBS, MANIFESTS, OURS, blob_file
from ollamad.store.ways import WAYS, Effort, Way, copied

_TEMPORARY: Final = "tmp-"


def make_folders(root: Path) -> None:
    """Make what a store consists of, where it isn't there. Raises StoreError."""
    with explained(root):
        for folder in (MANIFESTS, BLOBS, OURS):
            (root / folder).mkdir(parents=True, exist_ok=True)


def clear_left(root: Path) -> None:
    """Clear away what a crash left half made; only while nobody makes anything. Raises StoreError."""
    with explained(root):
        for left in (root / OURS).glob(f"{_TEMPORARY}*"):
            left.unlink(missing_ok=True)


def place_blob(source: Path, target: Path, digest: str, size: int, effort: Effort) -> Way:
    """Make `target`, a store, have a blob of `source`, another. Raises StoreError; the target is then as it was."""
    origin, aim = source / BLOBS / blob_file(digest), target / BLOBS / blob_file(digest)
    with explained(target):
        if aim.exists() and (aim.samefile(origin) or aim.stat().st_size == size):
            return Way.THERE
        with _temporary(target, aim.name) as fresh:
            way = next(way for way, bring in WAYS if bring(origin, fresh, size, effort))
            fresh.replace(aim)
        return way


def replace_blob(source: Path, target: Path, digest: str, size: int, effort: Effort) -> Way:
    """The same where the target's own copy is known to be corrupt: it is copied, never linked. Raises StoreError."""
    origin, aim = source / BLOBS / blob_file(digest), target / BLOBS / blob_file(digest)
    with explained(target), _temporary(target, aim.name) as fresh:
        copied(origin, fresh, size, effort)
        fresh.replace(aim)
    return Way.COPIED


def write_manifest(root: Path, path: str, raw: bytes, modified_ns: int) -> None:
    """Put a manifest in its place, with the time that it has elsewhere, once its blobs are safe. Raises StoreError."""
    aim = root / MANIFESTS / path
    with explained(root), _temporary(root, "manifest") as fresh:
        with fresh.open("wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        os.utime(fresh, ns=(modified_ns, modified_ns))
        _sync_folder(root / BLOBS)
        aim.parent.mkdir(parents=True, exist_ok=True)
        fresh.replace(aim)
        _sync_folder(aim.parent)


def remove_manifest(root: Path, path: str) -> None:
    """Take a manifest away, and the folders that it leaves empty. Raises StoreError."""
    aim = root / MANIFESTS / path
    with explained(root):
        aim.unlink(missing_ok=True)
        with suppress(OSError):  # not empty
            for folder in list(aim.parents)[: path.count("/")]:
                folder.rmdir()


@contextmanager
def explained(root: Path) -> Iterator[None]:
    """Turn an OSError into a StoreError that says what to do. Raises StoreError."""
    try:
        yield
    except PermissionError as error:
        raise StoreError(f"{root} can't be used by this user (uid {os.geteuid()}{_owner(root)})") from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise StoreError(f"the disk of {root} is full: free some space, `ollamactl prune` may help") from error
        raise StoreError(f"{root}: {error.strerror or error} ({error.filename})") from error


@contextmanager
def _temporary(root: Path, name: str) -> Iterator[Path]:
    """A path to make a file at, and gone afterwards unless it was renamed."""
    fresh = root / OURS / f"{_TEMPORARY}{threading.get_ident()}-{name}"
    fresh.parent.mkdir(parents=True, exist_ok=True)
    try:
        fresh.unlink(missing_ok=True)
        yield fresh
    finally:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _owner(root: Path) -> str:
    with suppress(OSError):
        return f"; it belongs to uid {root.stat().st_uid}"
    return ""
