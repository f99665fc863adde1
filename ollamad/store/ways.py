"""How the bytes of a blob come from one store into another, cheapest way first. Blocks."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import threading
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Final, Protocol

from ollamad.errors import StoreError
from ollamad.store.layout import blob_file

CHUNK_BYTES: Final = 4 * 1024**2
FREE_BYTES: Final = 256 * 1024**2
"""What a copy leaves free on a disk, for Ollama's own small files and everybody else's."""

_FICLONE: Final = 0x40049409
"""`_IOW(0x94, 9, int)` of linux/fs.h."""
_NO_LINK: Final = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS})
"""Another file system, a file of another user (fs.protected_hardlinks), too many links already, no links at all."""


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

    def go_on(self) -> None:
        """Raises StoreError once it was stopped."""
        if self.stopped.is_set():
            raise StoreError("stopped: ollamad is on its way out; it goes on at its next start")


class Bring(Protocol):
    """One way for a blob to come into a store. docs/EXTENDING.md adds one."""

    def __call__(self, origin: Path, fresh: Path, size: int, effort: Effort, /) -> bool:
        """Make a file at `fresh`, where there is none, with the `size` bytes of `origin`, a blob of another store.

        Gives False where this way does not lead from the one to the other; nothing is at `fresh` then. Raises OSError
        and StoreError for what would go wrong in any other way too. What takes long tells `effort`, and calls `go_on`.
        """


def linked(origin: Path, fresh: Path, _size: int, _effort: Effort, /) -> bool:
    """By a hard link: no bytes move, and none are held against their digest."""
    try:
        os.link(origin, fresh)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        return False
    return True


def reflinked(origin: Path, fresh: Path, _size: int, _effort: Effort, /) -> bool:
    """By shared extents: no bytes move until one of the two is written."""
    with origin.open("rb") as source, fresh.open("wb") as copy:
        try:
            fcntl.ioctl(copy.fileno(), _FICLONE, source.fileno())
        except OSError:  # no file system of this kind, or two of them: every refusal means the same
            fresh.unlink()
            return False
    return True


def copied(origin: Path, fresh: Path, size: int, effort: Effort, /) -> bool:
    """Byte by byte, held against its digest on the way. There is always this one."""
    free_bytes = shutil.disk_usage(fresh.parent).free
    if free_bytes < size + FREE_BYTES:
        raise StoreError(f"{fresh.parent.parent} needs {size} bytes for {origin.name}, its disk has {free_bytes} free")
    effort.begin(origin.name, size)
    found = hashlib.sha256()
    with origin.open("rb") as source, fresh.open("wb") as copy:
        while chunk := source.read(CHUNK_BYTES):
            effort.go_on()
            found.update(chunk)
            copy.write(chunk)
            effort.done_bytes += len(chunk)
            effort.copied_bytes += len(chunk)
        copy.flush()
        os.fsync(copy.fileno())
    if blob_file(found.hexdigest()) != origin.name:
        raise StoreError(f"{origin} is corrupt: its content is not what its name says; pull the model again")
    return True


WAYS: Final[tuple[tuple[Way, Bring], ...]] = ((Way.LINKED, linked), (Way.REFLINKED, reflinked), (Way.COPIED, copied))
"""In the order in which they are tried; the last never gives False."""
