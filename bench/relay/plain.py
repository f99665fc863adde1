"""The relay that anybody would write: aiohttp on both sides, `iter_any()` and `write()`. The baseline."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from typing import Final

import aiohttp
from aiohttp import web

HOP_BY_HOP: Final = {"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
UPSTREAM: Final = web.AppKey("upstream", str)
SESSION: Final = web.AppKey("session", aiohttp.ClientSession)


async def relay(request: web.Request) -> web.StreamResponse:
    """Pass one request on."""
    session, upstream = request.app[SESSION], request.app[UPSTREAM]
    headers = {name: value for name, value in request.headers.items() if name.lower() not in {*HOP_BY_HOP, "host"}}
    body = await request.read() if request.can_read_body else None
    async with session.request(request.method, upstream + request.raw_path, headers=headers, data=body) as answer:
        kept = {name: value for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP}
        response = web.StreamResponse(status=answer.status, headers=kept)
        await response.prepare(request)
        async for piece in answer.content.iter_any():
            await response.write(piece)
        await response.write_eof()
        return response


async def _session(app: web.Application) -> AsyncIterator[None]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None)) as session:
        app[SESSION] = session
        yield


def main(port: int, upstream: str) -> None:
    """Listen on a port of loopback, for one upstream."""
    app = web.Application(client_max_size=1 << 30)
    app[UPSTREAM] = upstream
    app.cleanup_ctx.append(_session)
    app.router.add_route("*", "/{path:.*}", relay)
    web.run_app(app, host="127.0.0.1", port=port, print=None, access_log=None, backlog=8192)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
