"""A simulated server, or many in one process: each on a port of its own, until its block is left."""

from __future__ import annotations

import posixpath
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus

import aiohttp
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from ollamad.sim.bind import BadRequest
from ollamad.sim.clock import Clock, LoopClock
from ollamad.sim.control import Control
from ollamad.sim.faults import Fault, Faults
from ollamad.sim.library import Library
from ollamad.sim.making import Making
from ollamad.sim.native import Native
from ollamad.sim.openai import OpenAi, error_body, failed
from ollamad.sim.replies import Failure, reply
from ollamad.sim.scheduler import Scheduler
from ollamad.sim.settings import Settings
from ollamad.sim.site import Site
from ollamad.sim.store import Store
from ollamad.sim.transfer import Transfer

NOT_FOUND = "404 page not found"


@dataclass(frozen=True, slots=True)
class Simulated:
    """A server that runs."""

    base_url: str
    site: Site
    """Its parts, for who is in the same process."""


@asynccontextmanager
async def simulated(
    settings: Settings,
    *,
    clock: Clock | None = None,
    leave: Callable[[], None] | None = None,
    foreign_bytes: Callable[[], int] = lambda: 0,
) -> AsyncIterator[Simulated]:
    """Run a server until the block is left. Raises OSError where its address is taken.

    `leave` is what the fault `exit` does; unless said it does nothing, as the process may have other servers.
    `foreign_bytes` is the VRAM of its devices that others have now.
    """
    clock, faults = clock or LoopClock(), Faults()
    await clock.sleep(settings.timing.start_s)
    store = Store(settings.store)
    if not settings.noprune:
        store.prune()
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(sock_connect=5)) as client:
        scheduler = Scheduler(settings, clock, faults, foreign_bytes)
        site = Site(settings, store, scheduler, faults, clock, client, leave or (lambda: None))
        runner = web.AppRunner(application(site), handler_cancellation=True, shutdown_timeout=0.0, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, settings.host, settings.port).start()
            host, port = runner.addresses[0][:2]
            yield Simulated(f"http://{host}:{port}", site)
        finally:
            scheduler.end()
            await runner.cleanup()


@asynccontextmanager
async def fleet(many: Sequence[Settings]) -> AsyncIterator[tuple[Simulated, ...]]:
    """Run several in this process."""
    async with AsyncExitStack() as stack:
        yield tuple([await stack.enter_async_context(simulated(settings)) for settings in many])


def application(site: Site) -> web.Application:
    """All routes of one server."""
    native, library = Native(site), Library(site)
    openai, transfer, control = OpenAi(site, native), Transfer(site), Control(site)

    async def root(_request: web.Request) -> web.Response:
        return web.Response(text="Ollama is running")

    async def version(_request: web.Request) -> web.Response:
        return reply({"version": site.settings.version})

    app = web.Application(middlewares=[_edge(site)], client_max_size=1 << 62)
    app.router.add_get("/", root)
    app.router.add_get("/api/version", version)
    app.router.add_get("/api/tags", library.tags)
    app.router.add_head("/api/blobs/{digest}", library.has_blob)
    app.router.add_delete("/api/delete", library.delete)
    for path, handler in (
        ("/api/ps", library.ps),
        ("/v1/models", openai.models),
        ("/v1/models/{model}", openai.model),
        ("/sim/state", control.state),
    ):
        app.router.add_get(path, handler, allow_head=False)
    for path, post in (
        ("/api/generate", native.generate),
        ("/api/chat", native.chat),
        ("/api/embed", native.embed),
        ("/api/embeddings", native.embeddings),
        ("/api/show", library.show),
        ("/api/copy", library.copy),
        ("/api/blobs/{digest}", library.upload),
        ("/api/create", Making(site).create),
        ("/api/pull", transfer.pull),
        ("/api/push", transfer.push),
        ("/v1/chat/completions", openai.chat),
        ("/v1/completions", openai.completion),
        ("/v1/embeddings", openai.embeddings),
        ("/sim/fault", control.fault),
    ):
        app.router.add_post(path, post)
    return app


def _edge(site: Site) -> Middleware:
    """What surrounds every handler: failures become answers, unknown routes are looked at twice, as in Ollama."""

    @web.middleware
    async def edge(request: web.Request, handler: Handler) -> web.StreamResponse:
        while site.faults.on(Fault.DEAF) and not request.path.startswith("/sim/"):
            await site.clock.sleep(0.05)
        openai = request.path.startswith("/v1/")
        try:
            return await handler(request)
        except BadRequest as bad:
            body = error_body(str(bad), "invalid_request_error") if openai else {"error": str(bad)}
            return reply(body, HTTPStatus.BAD_REQUEST)
        except Failure as failure:
            return failed(failure) if openai else reply(failure.body, failure.status)
        except (web.HTTPNotFound, web.HTTPMethodNotAllowed):
            return await _elsewhere(request)

    return edge


async def _elsewhere(request: web.Request) -> web.Response:
    """A path that differs from a route's by slashes is sent there; any other is not found, whatever its method."""
    tidy = posixpath.normpath(re.sub("/+", "/", request.path))
    if tidy != request.path:
        known = await request.app.router.resolve(request.clone(rel_url=tidy))
        if known.http_exception is None:
            body = f'<a href="{tidy}">Moved Permanently</a>.\n\n' if request.method == "GET" else ""
            status = HTTPStatus.MOVED_PERMANENTLY if request.method == "GET" else HTTPStatus.TEMPORARY_REDIRECT
            return web.Response(
                text=body, status=status, headers={"Location": tidy, "Content-Type": "text/html; charset=utf-8"}
            )
    return web.Response(body=NOT_FOUND.encode(), status=HTTPStatus.NOT_FOUND, headers={"Content-Type": "text/plain"})
