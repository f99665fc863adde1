"""Who the client is when another proxy stands before us: what `X-Forwarded-For` and `Forwarded` say of it.

Only the addresses of `proxy.trusted_proxies` are believed, and only as far back as the first one that is not: whatever
stands further left a client could have written itself.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from ollamad.proxy.headers import FORWARDING
from ollamad.upstream.head import Field

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_FOR: Final = re.compile(rb'(?:^|[;,])[ \t]*for=("?)([^";,\s]+)\1', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Forwarding:
    """What a child is told of a request's way to us."""

    client: str
    """The address nearest to us that is not a trusted proxy's."""
    fields: tuple[Field, ...]


class TrustedProxies:
    """Says who a request is from."""

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks = tuple(ipaddress.ip_network(network, strict=False) for network in networks)

    def trust(self, address: str) -> bool:
        """Whether what this address says of others is believed."""
        parsed = _address(address)
        return parsed is not None and any(parsed in network for network in self._networks)

    def read(self, peer: str, scheme: str, fields: Iterable[Field]) -> Forwarding:
        """The way of a request that came from `peer` with these header fields."""
        host = b""
        said: dict[bytes, bytes] = {}
        for name, value in fields:
            lower = name.lower()
            if lower == b"host":
                host = value
            elif lower in FORWARDING:
                said[lower] = b"%b, %b" % (said[lower], value) if lower in said else value
        if not said:
            return _first_hop(peer, host, scheme)
        told = said if self.trust(peer) else {}
        chain = [*_listed(told), peer]
        client = self._client(chain) if told else peer
        out = [
            (b"X-Forwarded-For", ", ".join(chain).encode("latin-1")),
            (b"X-Forwarded-Host", told.get(b"x-forwarded-host", host)),
            (b"X-Forwarded-Proto", told.get(b"x-forwarded-proto", scheme.encode())),
            (b"X-Real-IP", client.encode("latin-1")),
        ]
        if b"forwarded" in told:
            out.append((b"Forwarded", b"%b, for=%b" % (told[b"forwarded"], _node(peer))))
        return Forwarding(client, tuple(out))

    def _client(self, chain: list[str]) -> str:
        """The last one that nobody trusted vouches for any further; where one is no address, the one after it."""
        found = chain[-1]
        for address in reversed(chain):
            if _address(address) is None:
                break
            found = address
            if not self.trust(address):
                break
        return found


@lru_cache(maxsize=128)  # most clients say nothing, and come again; 3 µs each time
def _first_hop(peer: str, host: bytes, scheme: str) -> Forwarding:
    """The way of a request that came straight to us."""
    name = peer.encode("latin-1")
    return Forwarding(
        peer,
        (
            (b"X-Forwarded-For", name),
            (b"X-Forwarded-Host", host),
            (b"X-Forwarded-Proto", scheme.encode()),
            (b"X-Real-IP", name),
        ),
    )


def _listed(told: dict[bytes, bytes]) -> list[str]:
    """The addresses that were told, the first hop first; `X-Forwarded-For` before `Forwarded`."""
    if b"x-forwarded-for" in told:
        return [part.strip().decode("latin-1") for part in told[b"x-forwarded-for"].split(b",") if part.strip()]
    return [_bare(node[1].decode("latin-1")) for node in _FOR.findall(told.get(b"forwarded", b""))]


def _bare(node: str) -> str:
    """A node of `Forwarded` without its port and brackets."""
    if node.startswith("["):
        return node[1:].partition("]")[0]
    return node.partition(":")[0]


def _node(address: str) -> bytes:
    return f'"[{address}]"'.encode() if ":" in address else address.encode()


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        parsed = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(parsed, "ipv4_mapped", None) or parsed
