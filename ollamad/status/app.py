"""The status listener: `/status`, `/metrics`, `/healthz`, `/readyz`, each from one snapshot; the dashboard at `/`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Final

import msgspec
from aiohttp import web

from ollamad.fleet.models_view import ModelsView
from ollamad.routing.snapshot import Snapshot
from ollamad.status.board import Board
from ollamad.status.dashboard import load_page, load_schema
from ollamad.status.describe import openapi
from ollamad.status.exposition import CONTENT_TYPE
from ollamad.status.guard import Guard
from ollamad.status.listener import StatusRunner
from ollamad.status.models import whole_status
from ollamad.status.rendered import Rendered
from ollamad.status.view import is_ready

STALLED_S: Final = 30.0
"""A viewer that takes nothing for this long is gone, or as good as gone: its place is free for another."""


def status_runner(
    look: Callable[[], Snapshot],
    look_at_models: Callable[[], ModelsView],
    scrape: Callable[[], str],
    board: Board,
    guard: Guard | None = None,
    connections_max: int = 512,
) -> web.AppRunner:
    """The status listener, not yet listening.

    `look` gives the snapshot, `look_at_models` how it stands with models, `scrape` the metrics; `guard` says who may.
    """
    answers = _Answers(look, look_at_models, scrape, board)
    guarded = [] if guard is None else [guard.middleware()]
    application = web.Application(middlewares=[*guarded, _nothing_else])
    application.router.add_get("/", answers.dashboard)
    application.router.add_get("/events", answers.events, allow_head=False)
    application.router.add_get("/status", answers.status)
    application.router.add_get("/status.schema.json", answers.schema)
    application.router.add_get("/openapi.json", answers.description)
    application.router.add_get("/metrics", answers.metrics)
    application.router.add_get("/healthz", answers.healthz)
    application.router.add_get("/readyz", answers.readyz)
    application.on_shutdown.append(answers.close)
    return StatusRunner(application, connections_max)


@web.middleware
async def _nothing_else(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """A path that is not there, or not asked so: told as every other error is."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        told = f"{request.method} {request.path}: {error.reason}; GET /openapi.json tells what there is"
        allowed = {name: value for name, value in error.headers.items() if name == "Allow"}
        return web.json_response({"error": told}, status=error.status, headers=allowed)


class _Answers:
    """One method for each path."""

    def __init__(
        self,
        look: Callable[[], Snapshot],
        look_at_models: Callable[[], ModelsView],
        scrape: Callable[[], str],
        board: Board,
    ) -> None:
        self._look = look
        self._look_at_models = look_at_models
        self._board = board
        self._page = load_page()
        self._schema = load_schema()
        self._description = openapi()
        self._rendered_status = Rendered(self._render_status)
        self._rendered_metrics = Rendered(lambda: scrape().encode())

    def _render_status(self) -> bytes:
        return msgspec.json.encode(whole_status(self._look(), self._look_at_models()))

    async def status(self, _request: web.Request) -> web.Response:
        body, headers = self._rendered_status.now()
        return web.Response(body=body, headers={"Content-Type": "application/json", **headers})

    async def schema(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._schema, content_type="application/schema+json")

    async def description(self, _request: web.Request) -> web.Response:
        return web.json_response(self._description)

    async def metrics(self, _request: web.Request) -> web.Response:
        body, headers = self._rendered_metrics.now()
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE, **headers})

    async def healthz(self, _request: web.Request) -> web.Response:
        return web.json_response({"ok": True})

    async def readyz(self, _request: web.Request) -> web.Response:
        ready = is_ready(self._look())
        return web.json_response({"ready": ready}, status=200 if ready else 503)

    async def dashboard(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._page.body, headers=self._page.headers)

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Server-sent events until the viewer leaves, stalls, or the daemon stops."""
        if self._board.is_full:
            text = "the dashboard is open as often as [status] viewers_max allows; close another"
            return web.json_response({"error": text}, status=503, headers={"Retry-After": "10"})
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        await response.prepare(request)
        with suppress(ConnectionError, TimeoutError):  # it has left, or stalled: both are usual
            async with aclosing(self._board.follow()) as looks:
                async for look in looks:
                    async with asyncio.timeout(STALLED_S):
                        await response.write(look)
        return response

    async def close(self, _application: web.Application) -> None:
        self._board.close()
