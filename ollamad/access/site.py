"""A listener with TLS, that waits for a handshake no longer than for a head.

aiohttp's own leave a client a minute for it, and such a connection is in no count yet: a crowd of them would cost
memory and descriptors for nothing.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Any, Final

from aiohttp import web

from ollamad.config.address import Address

HANDSHAKE_S: Final = 10.0
"""For a client's side of TLS, which takes two round trips."""


def site_of(
    runner: web.BaseRunner, where: Address | socket.socket, tls: ssl.SSLContext | None, *, backlog: int
) -> web.BaseSite:
    """A listener on an address, or on a socket that is open already; with TLS, if there is any."""
    if tls is not None:
        return SecureSite(runner, where, tls, backlog=backlog)
    if isinstance(where, Address):
        return web.TCPSite(runner, where.host, where.port, backlog=backlog)
    return web.SockSite(runner, where, backlog=backlog)


class SecureSite(web.BaseSite):
    """Listens with TLS."""

    def __init__(
        self,
        runner: web.BaseRunner,
        where: Address | socket.socket,
        tls: ssl.SSLContext,
        *,
        backlog: int,
        handshake_s: float = HANDSHAKE_S,
    ) -> None:
        super().__init__(runner, ssl_context=tls, backlog=backlog)
        self._where: dict[str, Any] = (
            {"host": where.host, "port": where.port} if isinstance(where, Address) else {"sock": where}
        )
        self._handshake_s = handshake_s

    @property
    def name(self) -> str:
        """Where it is."""
        return f"https {self._where}"

    async def start(self) -> None:
        """Begin to listen."""
        await super().start()
        server = self._runner.server
        assert server is not None  # noqa: S101 - BaseSite has refused a runner without one
        self._server = await asyncio.get_running_loop().create_server(
            server,
            **self._where,
            ssl=self._ssl_context,
            backlog=self._backlog,
            ssl_handshake_timeout=self._handshake_s,
        )
