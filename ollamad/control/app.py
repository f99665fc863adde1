"""The control listener as an aiohttp application: who asks, whether they may, and errors in one shape."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import structlog
from aiohttp import web

from ollamad.control.access import Access, user_name
from ollamad.control.claim import BACKLOG, Peer, peer_of
from ollamad.control.endpoints import ENDPOINTS, Endpoint
from ollamad.control.handlers import MAY_CHANGE, PEER, Handlers, all_of
from ollamad.errors import ClientError, OllamadError, OperationFailed, UnknownChild

log = structlog.get_logger()

BODY_MAX_BYTES: Final = 64 * 1024
SHUTDOWN_S: Final = 0.5

Handle = Callable[[web.Request], Awaitable[web.StreamResponse]]


def control_runner(handlers: Handlers, access: Access) -> web.AppRunner:
    """The control face, not yet listening."""
    application = web.Application(client_max_size=BODY_MAX_BYTES, middlewares=[_errors_as_json])
    methods = all_of(handlers)
    for endpoint in ENDPOINTS:
        guarded = _Guarded(endpoint, methods[endpoint.handler], access)
        application.router.add_route(endpoint.method, endpoint.path, guarded.handle)
    return web.AppRunner(application, handler_cancellation=True, access_log=None, shutdown_timeout=SHUTDOWN_S)


class ControlSite(web.BaseSite):
    """Serves on a unix socket that listens already, and leaves its path alone: it may be systemd's.

    `create_unix_server` deletes the path at the end, from Python 3.13 on, and `web.SockSite` names no unix socket.
    """

    def __init__(self, runner: web.AppRunner, listener: socket.socket) -> None:
        super().__init__(runner, backlog=BACKLOG)
        self._listener = listener

    @property
    def name(self) -> str:
        """Where it listens, for people."""
        return f"unix:{self._listener.getsockname()}"

    async def start(self) -> None:
        """Begin to serve."""
        await super().start()
        server = self._runner.server
        assert server is not None  # noqa: S101 - BaseSite has refused a runner without one
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(server, sock=self._listener, backlog=self._backlog)


@dataclass(frozen=True, slots=True)
class _Guarded:
    """One endpoint behind the question who asks."""

    endpoint: Endpoint
    answer: Handle
    access: Access

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer, if this peer may ask. All that changes something is logged, with who asked; looking only at debug."""
        peer = _peer(request)
        request[PEER] = peer
        request[MAY_CHANGE] = self.access.may_change(peer)
        changes = self.endpoint.changes
        facts = {"method": request.method, "path": request.path, "pid": peer.pid, "user": user_name(peer.uid)}
        if changes and not request[MAY_CHANGE]:
            log.warning("control refused", **facts)
            raise ClientError(403, self.access.refusal(peer))
        log.log(_INFO if changes else _DEBUG, "control asked", **facts)
        return await self.answer(request)


_DEBUG: Final = 10
_INFO: Final = 20


def _peer(request: web.Request) -> Peer:
    connected = None if request.transport is None else request.transport.get_extra_info("socket")
    if connected is None:
        raise ClientError(400, "who asks is not known: the connection is gone")
    return peer_of(connected)


@web.middleware
async def _errors_as_json(request: web.Request, handler: Handle) -> web.StreamResponse:
    """Every error as `{"error": "…"}`, with the status that its kind has."""
    try:
        return await handler(request)
    except OllamadError as error:
        return web.json_response({"error": str(error)}, status=_status(error))
    except web.HTTPException as error:
        told = f"{request.method} {request.path}: {error.reason}; GET /v1/openapi.json tells what there is"
        allowed = {name: value for name, value in error.headers.items() if name == "Allow"}
        return web.json_response({"error": told}, status=error.status, headers=allowed)
    except Exception:
        log.exception("control fault", method=request.method, path=request.path)
        return web.json_response({"error": "a fault of ollamad's own; its log has the details"}, status=500)


def _status(error: OllamadError) -> int:
    match error:
        case ClientError(status=status):
            return status
        case UnknownChild():
            return 404
        case OperationFailed():
            return 409
        case _:
            return 500
