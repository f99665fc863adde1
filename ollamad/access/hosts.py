"""Which `Host` a client may call us by: Ollama's own defence against DNS rebinding, with names of the operator's.

A web page may point a name of its own at 127.0.0.1 and so reach a server there that trusts its address; it can't
choose the `Host` that the browser sends. Ollama checks it when it listens on loopback (0.33, server/routes.go:1803).
ollamad sends its children their own address, so it must check in their place.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Collection
from functools import lru_cache
from typing import Final

import psutil

from ollamad.config.address import Address

LOCAL_SUFFIXES: Final = (".localhost", ".local", ".internal")


def host_is_allowed(host: str, listen: Address, allowed: Collection[str]) -> bool:
    """Whether a request with this `Host` may be served on this address.

    `allowed` are names and addresses beside those that Ollama itself serves on loopback; `*` is any.
    """
    return _judged(host, listen, frozenset(allowed))


@lru_cache(maxsize=256)  # a request costs 60 µs in all, this check 7: and nearly all of them have the same `Host`
def _judged(host: str, listen: Address, allowed: frozenset[str]) -> bool:
    name = _name(host)
    if "*" in allowed or not listen.is_loopback or name in map(_name, allowed):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name in {"", "localhost", socket.gethostname().lower()} or name.endswith(LOCAL_SUFFIXES)
    return address.is_private  # loopback and unspecified addresses are, too


def own_addresses() -> frozenset[str]:
    """The addresses of this machine, public ones included: Ollama serves them as `Host` on loopback, too."""
    found = (entry.address.partition("%")[0] for entries in psutil.net_if_addrs().values() for entry in entries)
    return frozenset(found)


def _name(host: str) -> str:
    """A `Host` without its port and brackets, in lower case."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdigit() and ":" not in name else host).lower().rstrip(".")
