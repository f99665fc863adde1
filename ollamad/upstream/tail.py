"""The end of a body, kept while it passes: its last records say how much was computed."""

from __future__ import annotations

from typing import Final

TAIL_MAX_BYTES: Final = 8192
_ENOUGH_BYTES: Final = 1024
"""This much of the end is kept in any case; more of it only as long as a record that it begins in has not ended."""
_TRIM_AT_BYTES: Final = 3 * 1024
"""Trimmed when it has grown past this; thousands of streams are open at once, and each has one."""


class Tail:
    """The last bytes of a body: at least the last 1 KiB, begun where a record does, 8 KiB at most."""

    __slots__ = ("_dropped", "_pieces", "_size", "_trim_at")

    def __init__(self) -> None:
        self._dropped = 0
        self._pieces: list[bytes] = []
        self._size = 0
        self._trim_at = _TRIM_AT_BYTES

    @property
    def passed_bytes(self) -> int:
        """How much has passed, kept or not."""
        return self._dropped + self._size

    def add(self, piece: bytes) -> None:
        """The next bytes of the body."""
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size > self._trim_at:
            self._trim()

    def bytes(self) -> bytes:
        """What is kept of it: never more than 8 KiB."""
        return b"".join(self._pieces)[-TAIL_MAX_BYTES:]

    def ends_line(self) -> bool:
        """Whether the body so far ends where a line does; an empty one does not."""
        return bool(self._pieces) and self._pieces[-1].endswith(b"\n")

    def _trim(self) -> None:
        whole = b"".join(self._pieces)
        record = whole.rfind(b"\n", 0, -_ENOUGH_BYTES) + 1
        kept = whole[max(record, len(whole) - TAIL_MAX_BYTES) :]
        self._dropped += self._size - len(kept)
        self._pieces = [kept]
        self._size = len(kept)
        self._trim_at = min(max(2 * self._size, _TRIM_AT_BYTES), 2 * TAIL_MAX_BYTES)
