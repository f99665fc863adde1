"""Which headers pass to a child and back. RFC 9110 section 7.6.1 says what belongs to one connection only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from multidict import CIMultiDict, CIMultiDictProxy

HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
NOT_FOR_THE_CHILD: Final = frozenset({"host", "expect"})
"""`Host` becomes the child's own address, which its host check accepts; `Expect` is answered by our listener."""


def to_child(headers: CIMultiDictProxy[str], scheme: str) -> CIMultiDict[str]:
    """A client's headers as a child gets them.

    A same-origin `Origin` goes too: the child, called by another name, could not tell that it is one. Any other is
    left for the child to judge by `OLLAMA_ORIGINS`.
    """
    drop = _of_this_connection(headers) | NOT_FOR_THE_CHILD
    if headers.get("Origin", "") == f"{scheme}://{headers.get('Host', '')}":
        drop |= {"origin"}
    return _without(headers, drop)


def to_client(headers: CIMultiDictProxy[str], added: Mapping[str, str]) -> CIMultiDict[str]:
    """A child's headers as the client gets them, and what ollamad adds."""
    kept = _without(headers, _of_this_connection(headers))
    kept.update(added)
    return kept


def _of_this_connection(headers: CIMultiDictProxy[str]) -> frozenset[str]:
    named = {token.strip().lower() for value in headers.getall("Connection", []) for token in value.split(",")}
    return HOP_BY_HOP | named


def _without(headers: CIMultiDictProxy[str], names: frozenset[str]) -> CIMultiDict[str]:
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in names)
