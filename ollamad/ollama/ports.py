"""Free ports on loopback for the children."""

from __future__ import annotations

import socket
from typing import Final

from ollamad.errors import StartError

PORTS_TRIED: Final = 500


def free_port(base: int, taken: frozenset[int]) -> int:
    """The first port from `base` up that nobody listens on and that is not in `taken`.

    Somebody may still take it before the child does; the child then exits at once and gets another. Raises StartError.
    """
    for port in range(base, base + PORTS_TRIED):
        if port not in taken and _is_free(port):
            return port
    raise StartError(f"no free port from {base} to {base + PORTS_TRIED - 1} on 127.0.0.1; set [ollama] base_port")


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As Go's listener does: connections of a predecessor that linger in TIME_WAIT are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
