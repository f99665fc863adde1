"""Where the body of a response ends. Each reader is fed what comes, and gives the body's bytes without their framing.

Pure: no I/O. The common case, whole chunks as the child wrote them, costs one look at each size line: `as_is` then
says that the very bytes that came may be passed on, since they end where a chunk ends.
"""

from __future__ import annotations

import re
from typing import Final, Protocol

from ollamad.errors import Malformed
from ollamad.upstream.head import Field, Head, parse_field

_SIZE_LINE: Final = re.compile(rb"([0-9a-fA-F]{1,15})\r\n")
_SIZE_AND_EXTENSIONS: Final = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?")
ONE_CHUNK_MAX_BYTES: Final = 4096
"""A chunk up to this size, its framing included, is recognised by `Chunked.one`: a token's record has 100 to 500."""
LINE_MAX_BYTES: Final = 4096
"""Of a chunk's size line with its extensions, and of all trailers together."""


def _size_lines() -> tuple[bytes, ...]:
    """By the length of a whole chunk, the size line that it must begin with; where there is none, what nothing does."""
    lines = [bytes(ONE_CHUNK_MAX_BYTES + 1)] * (ONE_CHUNK_MAX_BYTES + 1)
    for size in range(1, ONE_CHUNK_MAX_BYTES):
        line = b"%x\r\n" % size
        if len(line) + size + 2 <= ONE_CHUNK_MAX_BYTES:
            lines[len(line) + size + 2] = line
    return tuple(lines)


_SIZE_LINES: Final = _size_lines()


class Body(Protocol):
    """Reads one body."""

    @property
    def done(self) -> bool:
        """Whether it has ended; nothing more must be fed then."""

    @property
    def as_is(self) -> bool:
        """Whether what was fed last may be passed on as it is to a client that is sent the same framing."""

    @property
    def surplus(self) -> bool:
        """Whether bytes came after its end: the connection must not be used again."""

    def feed(self, data: bytes) -> list[bytes]:
        """The body's bytes in this piece of the connection's. Raises Malformed."""

    def end(self) -> bool:
        """Tell that the connection has ended; gives whether the body is whole."""


class Sized:
    """A body of a known length."""

    __slots__ = ("_left", "as_is", "done", "surplus")

    def __init__(self, length: int) -> None:
        self._left = length
        self.done = length == 0
        self.as_is = True
        self.surplus = False

    def feed(self, data: bytes) -> list[bytes]:
        """The next bytes of it."""
        self.surplus = len(data) > self._left
        self.as_is = not self.surplus
        taken = data[: self._left] if self.surplus else data
        self._left -= len(taken)
        self.done = self._left == 0
        return [taken] if taken else []

    def end(self) -> bool:
        """Whole only when all of it has come."""
        return self.done


class UntilClose:
    """A body that ends with its connection: of HTTP/1.0, and of servers that say nothing of its length."""

    __slots__ = ("as_is", "done", "surplus")

    def __init__(self) -> None:
        self.done = False
        self.as_is = True
        self.surplus = False

    def feed(self, data: bytes) -> list[bytes]:
        """All of it."""
        return [data] if data else []

    def end(self) -> bool:
        """Its only end."""
        self.done = True
        return True


class Chunked:
    """A body in chunks, with extensions and trailers where there are any."""

    __slots__ = ("_held", "_in_trailers", "_left", "as_is", "done", "surplus", "trailers")

    def __init__(self) -> None:
        self._left = 0
        """Bytes of the chunk at hand that are still to come, the CRLF after it included; 0 between chunks."""
        self._held = b""
        """The beginning of a line that has not come whole."""
        self._in_trailers = False
        self.done = False
        self.as_is = False
        self.surplus = False
        self.trailers: list[Field] = []

    def one(self, data: bytes) -> bytes | None:
        """The bytes of a chunk, where this is one whole chunk and nothing else, written as servers write it; else None.

        What `feed` would find, for a third of the time: most reads of a token stream bring just that. The length of it
        all says which size line there must be, so that none has to be read.
        """
        length = len(data)
        if length > ONE_CHUNK_MAX_BYTES or self._left or self._held or self._in_trailers:
            return None
        line = _SIZE_LINES[length]
        if not data.startswith(line) or not data.endswith(b"\r\n"):
            return None
        return data[len(line) : -2]

    def feed(self, data: bytes) -> list[bytes]:
        """The bytes of its chunks, one piece a chunk, or less where a chunk comes in parts."""
        if not self._left and not self._held and not self._in_trailers:
            pieces: list[bytes] = []
            if self._whole_chunks(data, pieces):
                self.as_is = True
                return pieces
        self.as_is = False
        return self._slowly(data)

    def end(self) -> bool:
        """Whole only when its last chunk has come."""
        return self.done

    def _whole_chunks(self, data: bytes, pieces: list[bytes]) -> bool:
        """Whether these are chunks that are all here, of no extensions; their bytes are in `pieces` then."""
        at, end = 0, len(data)
        while at < end:
            line = _SIZE_LINE.match(data, at)
            if line is None:
                return False
            size = int(line[1], 16)
            begin = line.end()
            at = begin + size + 2
            if at > end or data[at - 2 : at] != b"\r\n":
                return False
            if not size:
                self.done = at == end
                return self.done
            pieces.append(data[begin : at - 2])
        return True

    def _slowly(self, data: bytes) -> list[bytes]:
        """The same for whatever comes: parts of lines, parts of chunks, extensions, trailers, nonsense."""
        pieces: list[bytes] = []
        data, self._held = self._held + data, b""
        while data and not self.done:
            if self._left:
                data = self._chunk(data, pieces)
                continue
            line, crlf, rest = data.partition(b"\r\n")
            if len(line) > LINE_MAX_BYTES:
                raise Malformed(f"a line of more than {LINE_MAX_BYTES} bytes in chunked framing")
            if not crlf:
                self._held = data
                break
            data = rest
            self._line(line)
        self.surplus = self.done and bool(data)
        return pieces

    def _chunk(self, data: bytes, pieces: list[bytes]) -> bytes:
        """Take what is here of the chunk at hand; gives what comes after it."""
        content = data[: max(self._left - 2, 0)]
        if content:
            pieces.append(content)
            self._left -= len(content)
            data = data[len(content) :]
        if self._left <= 2 and data:  # noqa: PLR2004 - CRLF
            closing = data[: self._left]
            if closing != b"\r\n"[-self._left :][: len(closing)]:
                raise Malformed(f"a chunk that is not closed by CRLF: {data[:20]!r}")
            self._left -= len(closing)
            data = data[len(closing) :]
        return data

    def _line(self, line: bytes) -> None:
        if self._in_trailers:
            if not line:
                self.done = True
                return
            self.trailers.append(parse_field(line))
            if sum(len(name) + len(value) for name, value in self.trailers) > LINE_MAX_BYTES:
                raise Malformed(f"more than {LINE_MAX_BYTES} bytes of trailers")
            return
        matched = _SIZE_AND_EXTENSIONS.fullmatch(line)
        if matched is None:
            raise Malformed(f"a chunk size that is none: {line[:40]!r}")
        size = int(matched[1], 16)
        self._in_trailers = size == 0
        self._left = size + 2 if size else 0


def body_of(head: Head, method: str) -> Body:
    """The reader for the body that follows this head in answer to `method`."""
    if not head.has_body(method):
        return Sized(0)
    if head.chunked:
        return Chunked()
    return UntilClose() if head.length is None else Sized(head.length)


LAST_CHUNK: Final = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """These bytes as one chunk; there must be some, since an empty chunk is the last one."""
    return b"%x\r\n%b\r\n" % (len(data), data)
