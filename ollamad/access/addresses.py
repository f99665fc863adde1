"""How often, and over how many connections, each client address asks. Pure; what is kept of strangers is bounded."""

from __future__ import annotations

import ipaddress
from collections import Counter
from typing import Final

from ollamad.access.bucket import Bucket, draw, full

ADDRESSES_MAX: Final = 65_536
"""Addresses that are remembered; beyond that the one that has not asked for longest is forgotten."""
NETWORK_BITS: Final = 64
"""What one IPv6 customer gets: who has one address of it has all."""


def network_of(address: str) -> str:
    """What counts as one client: an IPv4 address, an IPv6 network; as it is where it is neither."""
    if ":" not in address:
        return address
    try:
        parsed = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((parsed, NETWORK_BITS), strict=False))


class Addresses:
    """Requests by address."""

    def __init__(self) -> None:
        self._buckets: dict[str, Bucket] = {}

    def __len__(self) -> int:
        return len(self._buckets)

    def draw(self, address: str, per_minute: int, now_s: float) -> float:
        """Ask once; gives the seconds after which to come back, 0 where it was granted."""
        bucket = self._buckets.pop(address, None) or full(per_minute, now_s)
        self._buckets[address], wait_s = draw(bucket, per_minute, now_s)
        if len(self._buckets) > ADDRESSES_MAX:
            del self._buckets[next(iter(self._buckets))]
        return wait_s


class Crowd:
    """Open connections by address."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._open)

    def enter(self, address: str) -> int:
        """One connection more; gives how many there are now."""
        self._open[address] += 1
        return self._open[address]

    def leave(self, address: str) -> None:
        """One less."""
        self._open[address] -= 1
        if self._open[address] <= 0:
            del self._open[address]
