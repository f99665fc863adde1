"""Which `Host` a client may call us by: Ollama's own defence against DNS rebinding, with names of the operator's.

A web page may point a name of its own at 127.0.0.1 and so reach a server there that trusts its address; it can't
choose the `Host` that the browser sends. Ollama checks it when it listens on loopback (0.33, server/routes.go:1803).
ollamad sends its children their own address, so it must check in their place.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Collection
from typing import Final

from ollamad.config.address import Address

LOCAL_SUFFIXES: Final = (".localhost", ".local", ".internal")


def host_is_allowed(host: str, listen: Address, allowed: Collection[str]) -> bool:
    """Whether a request with this `Host` may be served on this address."""
    name = _without_port(host).lower().rstrip(".")
    if "*" in allowed or not _is_loopback(listen.host) or name in {entry.lower() for entry in allowed}:
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name in {"", "localhost", socket.gethostname().lower()} or name.endswith(LOCAL_SUFFIXES)
    return address.is_loopback or address.is_private or address.is_unspecified


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
