"""A TCP listener with TLS, that waits for a handshake no longer than for a head.

aiohttp's own leaves a client a minute for it, and such a connection is in no count yet: a crowd of them would cost
memory and descriptors for nothing.
"""

from __future__ import annotations

import asyncio
import ssl

from aiohttp import web


class SecureSite(web.TCPSite):
    """Listens on a host and a port."""

    def __init__(
        self, runner: web.BaseRunner, host: str, port: int, *, backlog: int, tls: ssl.SSLContext, handshake_s: float
    ) -> None:
        super().__init__(runner, host, port, backlog=backlog, ssl_context=tls)
        self._handshake_s = handshake_s

    async def start(self) -> None:
        """Begin to listen."""
        await web.BaseSite.start(self)
        server = self._runner.server
        assert server is not None  # noqa: S101 - BaseSite has refused a runner without one
        self._server = await asyncio.get_running_loop().create_server(
            server,
            self._host,
            self._port,
            ssl=self._ssl_context,
            backlog=self._backlog,
            ssl_handshake_timeout=self._handshake_s,
        )
