"""The proxy's listener as an aiohttp application."""

from __future__ import annotations

import aiohttp
from aiohttp import web
from aiohttp.http import SERVER_SOFTWARE

from ollamad.config.address import Address
from ollamad.config.schema import Proxy
from ollamad.fleet.fleet import Fleet
from ollamad.proxy.handler import Handler


def proxy_runner(fleet: Fleet, session: aiohttp.ClientSession, listen: Address) -> web.AppRunner:
    """The proxy, not yet listening."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", Handler(fleet, session, listen).handle)

    async def name_ourselves(_request: web.Request, response: web.StreamResponse) -> None:
        if response.headers.get("Server") == SERVER_SOFTWARE:  # not a child's own word
            response.headers["Server"] = "ollamad"

    application.on_response_prepare.append(name_ourselves)
    return web.AppRunner(
        application,
        handler_cancellation=True,  # a client that goes away frees its slot at once
        auto_decompress=False,  # bodies pass as they are, with the header that says how they are encoded
        access_log=None,  # the handler logs requests, with what it knows of them
        shutdown_timeout=1.0,
    )


def child_session(settings: Proxy) -> aiohttp.ClientSession:
    """Connections to the children: as many as there are requests, with nothing added to what passes."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=settings.connect_timeout_s),
        auto_decompress=False,
        skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
    )
