"""Addresses to listen on: `127.0.0.1:11434`, `[::1]:11434`, `myhost:0`."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Final

PORT_MAX: Final = 65_535


@dataclass(frozen=True, slots=True)
class Address:
    """A host and a port; port 0 lets the kernel choose one."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it. A name other than localhost may be anything."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host.lower() == "localhost"

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_address(text: str) -> Address:
    """Read `HOST:PORT`. Raises ValueError with what is allowed."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError('an IPv6 address stands in brackets: "[::1]:11434"')
    if not colon or not host or any(char.isspace() or char in "/[]" or not char.isprintable() for char in host):
        raise ValueError('expected "HOST:PORT", such as "127.0.0.1:11434"')
    if not (port.isascii() and port.isdigit()) or len(port) > len(str(PORT_MAX)) or int(port) > PORT_MAX:
        raise ValueError(f"the port must be a number from 0 to {PORT_MAX}")
    return Address(host, int(port))
