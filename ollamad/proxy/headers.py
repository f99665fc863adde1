"""Which header fields pass to a child and back, as bytes. RFC 9110 section 7.6.1 says what stays on one connection."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final

from ollamad.upstream.head import Field, Head, tokens

HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
FORWARDING: Final = frozenset(
    {b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-real-ip"}
)
"""Who a client is: only a proxy that is trusted can say so; see `forwarded.py`."""
KEYS: Final = frozenset({b"authorization", b"x-api-key"})
"""What lets a client in here is no child's affair, nor that of whoever can look into one."""
NOT_FOR_THE_CHILD: Final = HOP_BY_HOP | FORWARDING | KEYS | {b"host", b"expect", b"origin", b"content-length"}
"""`Host` becomes the child's own address, which its host check accepts; `Expect` is answered by our listener, `Origin`
is judged by it (the child is called by another name, and would judge wrongly); the length is that of what we send."""
OURS: Final = frozenset({b"x-ollamad-child", b"x-ollamad-queue-ms", b"x-ollamad-reason", b"x-request-id"})
"""What ollamad says of a response itself, in place of what the child may have said."""
NOT_FOR_THE_CLIENT: Final = HOP_BY_HOP | OURS | {b"content-length"}
NOT_IN_TRAILERS: Final = HOP_BY_HOP | {b"content-length", b"content-type", b"content-encoding", b"host", b"set-cookie"}
"""What would change how a message is read, were it merged into its head (RFC 9110 section 6.5.1)."""


def to_child(fields: Iterable[Field]) -> list[Field]:
    """A client's fields that a child gets as they are."""
    return _without(fields, NOT_FOR_THE_CHILD)


def to_client(fields: Iterable[Field], added: Mapping[str, str]) -> list[Field]:
    """A child's fields as the client gets them, and what ollamad adds."""
    kept = _without(fields, NOT_FOR_THE_CLIENT)
    kept += encoded(added.items())
    return kept


def encoded(fields: Iterable[tuple[str, str]]) -> list[Field]:
    """Fields as the bytes that they came in, where they came from aiohttp."""
    return [(name.encode(), value.encode("utf-8", "surrogateescape")) for name, value in fields]


def request_head(method: str, target: bytes, fields: Iterable[Field]) -> bytes:
    """A request's head in bytes."""
    return b"%b %b HTTP/1.1\r\n%b\r\n" % (method.encode(), target, lines(fields))


def response_head(head: Head, added: Mapping[str, str], *more: Iterable[Field]) -> bytes:
    """A response's head in bytes: the child's status, reason and fields, what ollamad adds, and more fields."""
    ours = "".join([f"{name}: {value}\r\n" for name, value in added.items()]).encode("utf-8", "surrogateescape")
    status = b"HTTP/1.1 %d %b\r\n" % (head.status, head.reason)
    return b"".join([status, _passing(head.fields), ours, *map(lines, more), b"\r\n"])


@lru_cache(maxsize=64)  # heads repeat, see `parse_head`
def _passing(fields: tuple[Field, ...]) -> bytes:
    return lines(_without(fields, NOT_FOR_THE_CLIENT))


def trailers(fields: Iterable[Field]) -> bytes:
    """The trailers that may pass, in bytes."""
    return lines((name, value) for name, value in fields if name.lower() not in NOT_IN_TRAILERS)


def lines(fields: Iterable[Field]) -> bytes:
    """Fields, each in a line of its own."""
    return b"".join([b"%b: %b\r\n" % field for field in fields])


def _without(fields: Iterable[Field], names: frozenset[bytes]) -> list[Field]:
    """The fields of other names than these, and than those that `Connection` names."""
    kept = []
    named: set[bytes] = set()
    for field in fields:
        name = field[0].lower()
        if name not in names:
            kept.append(field)
        elif name == b"connection":
            named |= tokens(field[1])
    if named - names:
        kept = [field for field in kept if field[0].lower() not in named]
    return kept
