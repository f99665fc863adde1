"""The head of a child's response, read strictly (RFC 9112): what can be understood in two ways is refused.

A response that a lenient reader ends elsewhere than we do would put its last bytes in front of the next response.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from typing import Final

from ollamad.errors import Malformed

_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*))?")
_FIELD: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)")
"""A name, at once a colon, a value without control characters: so no bare CR or LF, no NUL, no folded line."""
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")

FIELDS_MAX: Final = 256
"""More fields than this is no response of an Ollama."""

Field = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Head:
    """A response's status line and fields, with what they say about its body."""

    status: int
    reason: bytes
    fields: tuple[Field, ...]
    """As they came, in their order; values without the white space around them."""
    length: int | None
    """Of the body, where `Content-Length` says so."""
    chunked: bool
    persistent: bool
    """Whether the child keeps the connection open after this response, as far as the head can say."""

    def first(self, name: bytes) -> bytes:
        """The value of a field by its lower-case name; empty where it is not there."""
        return next((value for field, value in self.fields if field.lower() == name), b"")

    @property
    def interim(self) -> bool:
        """Whether the response proper is still to come."""
        return self.status < HTTPStatus.OK

    def has_body(self, method: str) -> bool:
        """Whether a body follows this head in answer to `method` (RFC 9112 section 6.3)."""
        return method != "HEAD" and self.status not in {HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED}


@lru_cache(maxsize=64)  # but for its `Date`, a child says the same head again and again: 0.2 µs, not 5
def parse_head(raw: bytes) -> Head:
    """A head without the empty line at its end. Raises Malformed."""
    first, *lines = raw.split(b"\r\n")
    status_line = _STATUS_LINE.fullmatch(first)
    if status_line is None:
        raise Malformed(f"a status line that is none: {first[:80]!r}")
    if len(lines) > FIELDS_MAX:
        raise Malformed(f"more than {FIELDS_MAX} header fields")
    fields = tuple(map(parse_field, lines))
    is_1_1 = status_line[1] == b"1"
    length, chunked, connection = _framing(fields, is_1_1=is_1_1)
    return Head(
        status=int(status_line[2]),
        reason=status_line[3] or b"",
        fields=fields,
        length=length,
        chunked=chunked,
        persistent=b"close" not in connection if is_1_1 else b"keep-alive" in connection,
    )


def parse_field(line: bytes) -> Field:
    """One field line of a head or a trailer. Raises Malformed."""
    matched = _FIELD.fullmatch(line)
    if matched is None:
        raise Malformed(f"a header field that is none: {line[:80]!r}")
    return matched[1], matched[2].rstrip(b" \t")


def tokens(value: bytes) -> set[bytes]:
    """The lower-case members of a list such as `Connection`'s."""
    return {token.strip().lower() for token in value.split(b",")} - {b""}


def _framing(fields: tuple[Field, ...], *, is_1_1: bool) -> tuple[int | None, bool, set[bytes]]:
    """Length, whether chunked, and the tokens of `Connection`. Raises Malformed on what can be read in two ways."""
    length: int | None = None
    chunked = False
    connection: set[bytes] = set()
    for name, value in fields:
        match name.lower():
            case b"content-length":
                if length is not None or not _LENGTH.fullmatch(value):
                    raise Malformed(f"a Content-Length that is not one number: {value[:80]!r}")
                length = int(value)
            case b"transfer-encoding":
                if chunked or not is_1_1 or value.lower() != b"chunked":
                    raise Malformed(f"a Transfer-Encoding other than chunked: {value[:80]!r}")
                chunked = True
            case b"connection":
                connection |= tokens(value)
            case _:
                pass
    if chunked and length is not None:
        raise Malformed("both Content-Length and Transfer-Encoding")
    return length, chunked, connection


INTERIM_MAX: Final = 8
"""So many `1xx` before a response are a server that has lost its way."""


class HeadReader:
    """Puts a head together from what comes; interim responses before it are passed over."""

    __slots__ = ("_interims", "_max_bytes", "_raw")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._interims = 0
        self._raw = b""

    def feed(self, data: bytes) -> tuple[Head, bytes] | None:
        """The head and what comes after it, once it is whole. Raises Malformed."""
        raw = self._raw + data
        while (end := raw.find(b"\r\n\r\n")) >= 0:
            head, raw = parse_head(raw[:end]), raw[end + 4 :]
            if not head.interim:
                return head, raw
            self._interims += 1
            if head.status == HTTPStatus.SWITCHING_PROTOCOLS or self._interims > INTERIM_MAX:
                raise Malformed(f"a {head.status} that nobody asked for")
        if len(raw) > self._max_bytes:
            raise Malformed(f"a head of more than {self._max_bytes} bytes")
        if raw.count(b"\n") != raw.count(b"\r\n"):  # such a server may never send the end that we wait for
            raise Malformed("a line that ends without CR")
        self._raw = raw
        return None
