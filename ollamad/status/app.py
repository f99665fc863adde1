"""The status listener: `/status`, `/metrics`, `/healthz`, `/readyz`, each from one snapshot; the dashboard at `/`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing, suppress
from typing import Final

from aiohttp import web

from ollamad.routing.snapshot import Snapshot
from ollamad.status.board import Board
from ollamad.status.dashboard import load_page, load_schema
from ollamad.status.exposition import CONTENT_TYPE
from ollamad.status.view import is_ready, status

STALLED_S: Final = 30.0
"""A viewer that takes nothing for this long is gone, or as good as gone: its place is free for another."""


def status_runner(look: Callable[[], Snapshot], scrape: Callable[[], str], board: Board) -> web.AppRunner:
    """The status listener, not yet listening. `look` gives the snapshot, `scrape` the metrics."""
    page, schema = load_page(), load_schema()

    async def get_status(_request: web.Request) -> web.Response:
        return web.json_response(status(look()))

    async def get_schema(_request: web.Request) -> web.Response:
        return web.Response(body=schema, content_type="application/schema+json")

    async def get_metrics(_request: web.Request) -> web.Response:
        return web.Response(body=scrape().encode(), headers={"Content-Type": CONTENT_TYPE})

    async def get_healthz(_request: web.Request) -> web.Response:
        return web.json_response({"ok": True})

    async def get_readyz(_request: web.Request) -> web.Response:
        ready = is_ready(look())
        return web.json_response({"ready": ready}, status=200 if ready else 503)

    async def get_dashboard(_request: web.Request) -> web.Response:
        return web.Response(body=page.body, headers=page.headers)

    async def get_events(request: web.Request) -> web.StreamResponse:
        return await _told(request, board)

    async def close_board(_application: web.Application) -> None:
        board.close()

    application = web.Application()
    application.router.add_get("/", get_dashboard)
    application.router.add_get("/status", get_status)
    application.router.add_get("/status.schema.json", get_schema)
    application.router.add_get("/metrics", get_metrics)
    application.router.add_get("/events", get_events, allow_head=False)
    application.router.add_get("/healthz", get_healthz)
    application.router.add_get("/readyz", get_readyz)
    application.on_shutdown.append(close_board)
    return web.AppRunner(application, access_log=None, handler_cancellation=True, shutdown_timeout=0.5)


async def _told(request: web.Request, board: Board) -> web.StreamResponse:
    """Server-sent events until the viewer leaves, stalls, or the daemon stops."""
    if board.is_full:
        text = "the dashboard is open as often as [status] viewers_max allows; close another"
        return web.json_response({"error": text}, status=503, headers={"Retry-After": "10"})
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
    await response.prepare(request)
    with suppress(ConnectionError, TimeoutError):  # it has left, or stalled: both are usual
        async with aclosing(board.follow()) as looks:
            async for look in looks:
                async with asyncio.timeout(STALLED_S):
                    await response.write(look)
    return response
