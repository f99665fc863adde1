"""The status listener's connections: aiohttp's, as many as there may be, and no patience for a head that does not come.

What strangers send that is no request is answered in one line, and quoted nowhere: it may hold a key.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

import structlog
from aiohttp import web
from aiohttp.http import HttpProcessingError

from ollamad.access.malformed import what_was_wrong

log = structlog.get_logger()

HEAD_S: Final = 15.0
"""From a connection's beginning, or a request's first byte, to the end of its head."""
KEEPALIVE_S: Final = 75.0
"""Longer than the minute that Prometheus leaves between two scrapes."""
LINGER_S: Final = 1.0
HEAD_MAX_BYTES: Final = 16_384


class StatusRunner(web.AppRunner):
    """Runs the application with connections of ours; `connections_max` of them at once."""

    def __init__(self, application: web.Application, connections_max: int) -> None:
        super().__init__(application, access_log=None, handler_cancellation=True, shutdown_timeout=0.5)
        self._connections_max = connections_max

    @property
    def server(self) -> Callable[[], asyncio.Protocol] | None:  # type: ignore[override]  # sites only call it
        """What makes a protocol for each connection."""
        server = super().server
        return None if server is None else lambda: Connection(server, self._connections_max)


class Connection(web.RequestHandler):
    """One of a monitor's."""

    __slots__ = ("_connections_max", "_head_due")

    def __init__(self, manager: web.Server, connections_max: int) -> None:
        super().__init__(
            manager,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]  # as aiohttp's own runners say it
            keepalive_timeout=KEEPALIVE_S,
            lingering_time=LINGER_S,
            max_line_size=HEAD_MAX_BYTES,
            max_field_size=HEAD_MAX_BYTES,
        )
        self._connections_max = connections_max
        self._head_due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take it, unless there are too many."""
        super().connection_made(transport)
        if self._manager is not None and len(self._manager.connections) > self._connections_max:
            log.warning("status connection turned away", connections=len(self._manager.connections))
            self.force_close()
        else:
            self._expect_head()

    def connection_lost(self, exc: BaseException | None) -> None:
        """It is gone."""
        self._head_is_here()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """More of a request; a head must be whole in time."""
        super().data_received(data)
        if self._messages or self._current_request is not None:
            self._head_is_here()
        elif data and self._head_due is None:
            self._expect_head()

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Answer what could not be read as a request, or could not be answered."""
        if request.writer.output_size > 0:
            raise ConnectionError("a response has been begun")
        if isinstance(exc, UnicodeError):  # aiohttp says 500 of a field that is no text, where it is to be told of
            exc, status = HttpProcessingError(message="a header field is no text"), HTTPStatus.BAD_REQUEST
        known = isinstance(exc, HttpProcessingError)
        told = what_was_wrong(message or str(exc)) if known else "a fault of ollamad's own; its log has the details"
        if not known:
            log.error("status fault", path=request.path, exc_info=exc)
        response = web.json_response({"error": told}, status=status)
        response.force_close()
        return response

    def log_exception(self, *_arguments: Any, **_more: Any) -> None:
        """Told by `handle_error`, or of no interest: a client that broke off."""

    def _expect_head(self) -> None:
        self._head_due = asyncio.get_running_loop().call_later(HEAD_S, self.force_close)

    def _head_is_here(self) -> None:
        if self._head_due is not None:
            self._head_due.cancel()
            self._head_due = None
