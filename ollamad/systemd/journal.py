"""The journal's own protocol: one event, one datagram of fields, so that `journalctl OLLAMAD_CHILD=gpu1` finds it.

https://systemd.io/JOURNAL_NATIVE_PROTOCOL/. A field is `NAME=value`, or, where the value holds a newline, the
name alone on its line and then the value with its length before it: no value, whoever it is from, can begin a field.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final

SOCKET: Final = Path("/run/systemd/journal/socket")
STREAM: Final = "JOURNAL_STREAM"
FIELD_MAX_BYTES: Final = 8192
"""A longer value is cut: what a child prints is not longer (`ollama.output.LINE_MAX_BYTES`)."""
ENTRY_MAX_BYTES: Final = 64 * 1024
"""Fields that would go over it are left out: a datagram that is too large for the socket is not sent at all."""
_LENGTH: Final = struct.Struct("<Q")
_CUT: Final = b"[cut]"


def is_journal(descriptor: int, environ: Mapping[str, str]) -> bool:
    """Whether this open file is the stream into the journal that systemd has given us, and the journal can be reached.

    By device and inode, as systemd.exec(5) says: a service's standard error may have been sent elsewhere since.
    """
    device, _, inode = environ.get(STREAM, "").partition(":")
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False
    return (device, inode) == (str(found.st_dev), str(found.st_ino)) and SOCKET.is_socket()


def entry(fields: Iterable[tuple[str, str]]) -> bytes:
    """One datagram. Names must be the journal's: capitals, digits and `_`, no `_` before them."""
    fields = tuple(fields)
    lines = "".join([f"{name}={value}\n" for name, value in fields])
    simple = lines.encode("utf-8", "backslashreplace")
    if len(simple) <= FIELD_MAX_BYTES and lines.count("\n") == len(fields):  # nearly all are so, and there are many
        return simple
    room, parts = ENTRY_MAX_BYTES, []
    for name, text in fields:
        value = text.encode("utf-8", "backslashreplace")
        if len(value) > FIELD_MAX_BYTES:
            value = value[: FIELD_MAX_BYTES - len(_CUT)] + _CUT
        part = _field(name.encode("ascii"), value)
        if len(part) <= room:
            room -= len(part)
            parts.append(part)
    return b"".join(parts)


def _field(name: bytes, value: bytes) -> bytes:
    if b"\n" in value:
        return b"%b\n%b%b\n" % (name, _LENGTH.pack(len(value)), value)
    return b"%b=%b\n" % (name, value)


class ToJournal:
    """Sends entries; what the journal does not take at once is lost: a full disk costs its log, not a request."""

    def __init__(self, path: Path = SOCKET) -> None:
        self._path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.settimeout(0.0)

    def __call__(self, *_name: object) -> ToJournal:
        """Serve as structlog's factory of loggers: there is only this one."""
        return self

    def msg(self, message: bytes) -> None:
        """Send one entry. The socket is named anew each time: journald may have been restarted."""
        with suppress(OSError):
            self._socket.sendto(message, self._path)

    debug = info = warning = error = exception = msg

    def close(self) -> None:
        """Send nothing more."""
        self._socket.close()


@cache
def the_journal() -> ToJournal:
    """The journal of this machine, for as long as the process lives."""
    return ToJournal()
