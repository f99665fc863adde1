"""Blobs and manifests put into a store, each whole or not at all. Blocks.

A blob is hard-linked; where that can't be, its extents are shared (reflink); where that can't be either, it is copied
and held against its digest. A manifest is always a file of its own, as Ollama writes manifests in place: a linked one
would change in every store. All is made under a temporary name in `.ollamad/` and renamed.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Final

from ollamad.errors import StoreError
from ollamad.store.layout import BLOBS, MANIFESTS, OURS, blob_file

CHUNK_BYTES: Final = 4 * 1024**2
FREE_BYTES: Final = 256 * 1024**2
"""What a copy leaves free on a disk, for Ollama's own small files and everybody else's."""

_FICLONE: Final = 0x40049409
"""`_IOW(0x94, 9, int)` of linux/fs.h."""
_NO_LINK: Final = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS})
"""Another file system, a file of another user (fs.protected_hardlinks), too many links already, no links at all."""
_TEMPORARY: Final = "tmp-"


class Way(Enum):
    """How a blob came into a store."""

    THERE = "there"
    LINKED = "linked"
    REFLINKED = "reflinked"
    COPIED = "copied"


@dataclass(slots=True)
class Effort:
    """Work in a thread, seen and stopped from outside: each field is set by one side and read by the other."""

    stopped: threading.Event = field(default_factory=threading.Event)
    what: str = ""
    done_bytes: int = 0
    total_bytes: int = 0
    copied_bytes: int = 0
    """Of all that was copied, what `done_bytes` tells of included."""

    def begin(self, what: str, total_bytes: int) -> None:
        """Say what is copied now."""
        self.what, self.done_bytes, self.total_bytes = what, 0, total_bytes


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
        return _made(origin, aim, target, size, effort)


def replace_blob(source: Path, target: Path, digest: str, size: int, effort: Effort) -> Way:
    """The same where the target's own copy is known to be corrupt: it is copied, never linked. Raises StoreError."""
    origin, aim = source / BLOBS / blob_file(digest), target / BLOBS / blob_file(digest)
    with explained(target), _temporary(target, aim.name) as fresh:
        _copy(origin, fresh, size, effort)
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


def hash_of(path: Path, stopped: threading.Event) -> str:
    """The SHA-256 of a file, in hex. Raises OSError, and StoreError when it was stopped."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            _go_on(stopped)
            found.update(chunk)
    return found.hexdigest()


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


def _made(origin: Path, aim: Path, target: Path, size: int, effort: Effort) -> Way:
    with _temporary(target, aim.name) as fresh:
        try:
            os.link(origin, fresh)
            way = Way.LINKED
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            way = _shared_or_copied(origin, fresh, size, effort)
        fresh.replace(aim)
    return way


def _shared_or_copied(origin: Path, fresh: Path, size: int, effort: Effort) -> Way:
    with origin.open("rb") as source, fresh.open("wb") as copy:
        try:
            fcntl.ioctl(copy.fileno(), _FICLONE, source.fileno())
        except OSError:  # no file system of this kind, or two of them: every refusal means the same
            pass
        else:
            return Way.REFLINKED
    _copy(origin, fresh, size, effort)
    return Way.COPIED


def _copy(origin: Path, fresh: Path, size: int, effort: Effort) -> None:
    free_bytes = shutil.disk_usage(fresh.parent).free
    if free_bytes < size + FREE_BYTES:
        raise StoreError(f"{fresh.parent.parent} needs {size} bytes for {origin.name}, its disk has {free_bytes} free")
    effort.begin(origin.name, size)
    found = hashlib.sha256()
    with origin.open("rb") as source, fresh.open("wb") as copy:
        while chunk := source.read(CHUNK_BYTES):
            _go_on(effort.stopped)
            found.update(chunk)
            copy.write(chunk)
            effort.done_bytes += len(chunk)
            effort.copied_bytes += len(chunk)
        copy.flush()
        os.fsync(copy.fileno())
    if blob_file(found.hexdigest()) != origin.name:
        raise StoreError(f"{origin} is corrupt: its content is not what its name says; pull the model again")


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


def _go_on(stopped: threading.Event) -> None:
    if stopped.is_set():
        raise StoreError("stopped: ollamad is on its way out; it goes on at its next start")


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
