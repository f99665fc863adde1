"""What has come of a response before there is a client to write it to."""

from __future__ import annotations

from typing import Final

EARLY_MAX_BYTES: Final = 65_536
"""What may come before there is a client to write to; then reading pauses."""


class Early:
    """What has come of a body before there is somebody to write it to."""

    __slots__ = ("_size", "as_is", "pieces", "raw")

    def __init__(self) -> None:
        self.raw = b""
        """As it came; complete only while `as_is`."""
        self.pieces: list[bytes] = []
        self.as_is = True
        self._size = 0

    def add(self, data: bytes, pieces: list[bytes], *, as_is: bool) -> int:
        """Keep one piece of the connection's; gives how much is kept."""
        self.as_is = self.as_is and as_is
        self.raw = self.raw + data if self.as_is else b""
        self.pieces += pieces
        self._size += len(data)
        return self._size
