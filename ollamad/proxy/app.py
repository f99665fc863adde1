"""The proxy's listener, put together."""

from __future__ import annotations

import resource
from typing import Final

import aiohttp
from aiohttp import web

from ollamad.access.keyring import Keyring
from ollamad.config.address import Address
from ollamad.config.schema import Proxy
from ollamad.fleet.fleet import Fleet
from ollamad.proxy.connection import Listener
from ollamad.proxy.exchange import Relay
from ollamad.proxy.front import Front
from ollamad.proxy.gate import Gate
from ollamad.proxy.handler import Handler
from ollamad.proxy.shared import Shared
from ollamad.upstream.pool import Pool

SPARE_FILES: Final = 256
"""Of the process's open files, those that are not connections: the children's pipes, the log, probes."""
FILES_PER_CLIENT: Final = 2
"""Its own connection, and the child's."""


class ProxyRunner(web.ServerRunner):
    """The proxy; with it go its connections to the children."""

    def __init__(self, listener: Listener, pool: Pool) -> None:
        super().__init__(listener, shutdown_timeout=1.0)
        self._listener = listener
        self._pool = pool

    async def run_out(self, timeout_s: float) -> bool:
        """Let those who are here have their answers; False where some still are here after `timeout_s`."""
        return await self._listener.run_out(timeout_s)

    async def _cleanup_server(self) -> None:
        self._pool.close()


def proxy_runner(fleet: Fleet, session: aiohttp.ClientSession, listen: Address, keyring: Keyring) -> ProxyRunner:
    """The proxy, not yet listening."""

    def settings() -> Proxy:
        return fleet.config.proxy

    pool = Pool(settings)
    handler = Handler(fleet, session, Relay(pool, settings), listen, Gate(keyring, settings))
    shared = Shared(settings, _connections_possible())
    return ProxyRunner(Listener(Front(handler.handle, shared).answer, shared), pool)


def _connections_possible() -> int:
    """How many clients this process has file descriptors for, once its soft limit is as high as it may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return max((hard - SPARE_FILES) // FILES_PER_CLIENT, 1) if hard != resource.RLIM_INFINITY else 1 << 30


def child_session(settings: Proxy) -> aiohttp.ClientSession:
    """For ollamad's own questions to the children; what clients send goes through the relay's pool."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=settings.connect_timeout_s),
        auto_decompress=False,
        skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
    )
