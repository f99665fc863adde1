"""One client's connection: aiohttp's, with limits that it does not have and no patience for what is slow on purpose."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from typing import Any, Final, cast

import structlog
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage
from aiohttp.streams import StreamReader

from ollamad.access.addresses import network_of
from ollamad.access.malformed import what_was_wrong
from ollamad.proxy.forwarded import TrustedProxies
from ollamad.proxy.shapes import error_body, error_response
from ollamad.proxy.shared import Shared, Source

log = structlog.get_logger()

SHORT: Final = frozenset({"GET", "HEAD"})
"""Requests that are answered although the client has said that it will send no more; see `eof_received`."""
LET_IN_S: Final = 1.0
"""How long a client whom we have let in just before we stop may take to ask."""
_LATE: Final = b"408 Request Timeout"
_TURNED_AWAY: Final = b"503 Service Unavailable\r\nRetry-After: 5"


class Connection(web.RequestHandler):
    """A client's connection."""

    __slots__ = (
        "_address",
        "_asked",
        "_half_closed",
        "_has_asked",
        "_head_due",
        "_linger_due",
        "_stall_due",
        "_turned_away",
        "_wire",
        "shared",
        "source",
    )

    def __init__(self, manager: web.Server, shared: Shared, **arguments: Any) -> None:
        super().__init__(manager, **arguments)
        self.shared = shared
        self.source: Source | None = None
        """What is being passed on to this client now."""
        self._asked: str | None = None
        """The method of the request that is being answered."""
        self._wire: asyncio.Transport | None = None
        """The transport, also when aiohttp has done with it and it has not yet sent all."""
        self._address = ""
        self._has_asked = False
        self._half_closed = False
        self._turned_away = False
        self._head_due: asyncio.TimerHandle | None = None
        self._stall_due: asyncio.TimerHandle | None = None
        self._linger_due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take it, unless there are too many: then its first request is answered with 503."""
        super().connection_made(transport)
        self.shared.connections += 1
        peer = _peer_of(transport)
        self._address = network_of(peer)
        self._turned_away = self._is_one_of_a_crowd(peer) or self.shared.full
        settings = self.shared.settings
        high = settings.stream_buffer_max_bytes
        self._wire = cast("asyncio.Transport", transport)
        self._wire.set_write_buffer_limits(high=high, low=high // 4)
        # Not only while a response is passed on: a closed transport waits for ever to flush what nobody reads.
        self._wire.get_extra_info("socket").setsockopt(
            socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(settings.client_stall_timeout_s * 1000)
        )

    def connection_lost(self, exc: BaseException | None) -> None:
        """The client is gone: nobody wants what its child still says."""
        if self._manager is not None:
            self.shared.connections -= 1
            self.shared.crowd.leave(self._address)
        _cancel(self._head_due, self._stall_due, self._linger_due)
        if self.source is not None:
            self.source.abort()
        super().connection_lost(exc)
        self.shared.moved.ring()

    def data_received(self, data: bytes) -> None:
        """More of a request; a head must be whole in time."""
        if self._turned_away:
            self._turn_away()
            return
        super().data_received(data)
        if not self._awaits_head:
            _cancel(self._head_due)
            self._head_due = None
        elif data and self._head_due is None:
            self._head_due = self._loop.call_later(self.shared.settings.header_timeout_s, self._head_is_late)

    def eof_received(self) -> bool | None:  # type: ignore[override]  # asyncio's protocols may say so; aiohttp's does not
        """The client will send no more: it has left, or it has only closed its half, as `nc -N` does. Nobody can tell.

        Go's server, and so Ollama, takes it for having left, and so do we, or a client that leaves while its request
        waits would be generated for. Only short questions that were asked whole are still answered, within `linger_s`.
        """
        methods = {getattr(message, "method", "") for message, _ in self._messages}
        methods |= {self._asked} if self._asked is not None else set()
        encrypted = self._wire is None or self._wire.get_extra_info("ssl_object") is not None
        if encrypted or not methods or not methods <= SHORT:  # TLS has no halves: who ends one way ends both
            return None
        self._half_closed = True
        self._linger_due = self._loop.call_later(self.shared.settings.linger_s, self._abort)
        if not self._messages:
            self.close()
        return True

    def pause_writing(self) -> None:
        """The client takes less than is made for it: its child waits, though not for ever."""
        super().pause_writing()
        if self.source is not None:
            self.source.pause()
        self._stall_due = self._loop.call_later(self.shared.settings.client_stall_timeout_s, self._stalls)

    def resume_writing(self) -> None:
        """It takes again."""
        super().resume_writing()
        _cancel(self._stall_due)
        if self.source is not None:
            self.source.resume()

    def taken(
        self, message: RawRequestMessage, payload: StreamReader, writer: AbstractStreamWriter, task: asyncio.Task[None]
    ) -> web.Request:
        """The next request, about to be answered."""
        self._asked = message.method
        if not self._has_asked:
            self._has_asked = True
            self.shared.moved.ring()
        if self._half_closed and not self._messages:
            self.close()
        return web.Request(message, payload, self, writer, task, self._loop)

    @property
    def has_asked(self) -> bool:
        """Whether a request has come on it."""
        return self._has_asked

    def rest(self) -> None:
        """Close it once it has nothing to answer."""
        self.close()
        if self._asked is None and not self._messages and self.transport is not None:
            self.transport.close()

    async def finish_response(self, *arguments: Any) -> tuple[web.StreamResponse, bool]:
        """Send what is left of a response."""
        try:
            return await super().finish_response(*arguments)
        finally:
            self._asked = None

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Answer what could not be read as a request, in the shape of the API."""
        if request.writer.output_size > 0:
            raise ConnectionError("a response has been begun")
        reason = what_was_wrong(message or str(exc or ""))
        log.info("request malformed", client=request.remote, status=status, reason=reason)
        response = error_response(request.path, status, reason)
        response.headers["Server"] = "ollamad"
        response.force_close()
        return response

    def log_exception(self, *_arguments: Any, **_more: Any) -> None:
        """Aiohttp tells of clients that break off as of errors; the handler has told of it already."""

    @property
    def _awaits_head(self) -> bool:
        """Whether no request is whole yet, or being answered; also before aiohttp's task has begun, as TLS has it."""
        return self._asked is None and not self._messages

    def _is_one_of_a_crowd(self, peer: str) -> bool:
        """Whether its address has more connections than one client may; a trusted proxy speaks for many."""
        settings = self.shared.settings
        crowd = self.shared.crowd.enter(self._address)
        return crowd > settings.connections_per_client_max and not TrustedProxies(settings.trusted_proxies).trust(peer)

    def _turn_away(self) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(_said(_TURNED_AWAY, "too many connections; try again later"))
            log.warning("connection turned away", connections=self.shared.connections)
        self.force_close()

    def _head_is_late(self) -> None:
        self._head_due = None
        if self.transport is not None and self._awaits_head:
            log.info("client too slow", waited_for="its request's head")
            self.transport.write(_said(_LATE, "the request's head came too slowly; send it again"))
            self.force_close()

    def _abort(self) -> None:
        if self._wire is not None:
            self._wire.abort()

    def _stalls(self) -> None:
        log.info("client too slow", waited_for="its taking of a response")
        self._abort()


class Listener(web.Server):
    """Makes a `Connection` of each client's."""

    def __init__(self, handler: Callable[[Any], Any], shared: Shared) -> None:
        super().__init__(handler, request_factory=_taken, handler_cancellation=True)
        self._shared = shared

    async def run_out(self, timeout_s: float) -> bool:
        """Let those who are here have their answers, and close; False where some still are here after `timeout_s`.

        Who has had an answer and goes on is to connect anew; who has only just been let in may still ask.
        """
        since_s, moved = self._loop.time(), self._shared.moved
        self._rest(lambda connection: connection.has_asked)
        await moved.until(lambda: all(one.has_asked for one in self._open()), min(timeout_s, LET_IN_S))
        self._rest(lambda _: True)
        return await moved.until(lambda: not self._shared.connections, timeout_s - (self._loop.time() - since_s))

    def _open(self) -> list[Connection]:
        return [cast("Connection", one) for one in self.connections if one.transport is not None]

    def _rest(self, which: Callable[[Connection], bool]) -> None:
        for connection in filter(which, self._open()):
            connection.rest()

    def __call__(self) -> web.RequestHandler:
        """A protocol for one more client."""
        settings = self._shared.settings
        return Connection(
            self,
            self._shared,
            loop=self._loop,
            access_log=None,  # the handler logs requests, with what it knows of them
            auto_decompress=False,  # bodies pass as they are, with the header that says how they are encoded
            keepalive_timeout=settings.keepalive_timeout_s,
            lingering_time=settings.linger_s,
            max_headers=settings.header_fields_max,
            max_field_size=settings.header_max_bytes,
            max_line_size=settings.header_max_bytes,
        )


def _said(status: bytes, message: str) -> bytes:
    """The last word on a connection that is told nothing by a handler, as no path is known: in Ollama's shape."""
    body = json.dumps(error_body("/", 0, message)).encode()
    fields = b"Connection: close\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: %d" % len(body)
    return b"HTTP/1.1 %b\r\n%b\r\n\r\n%b" % (status, fields, body)


def _peer_of(transport: asyncio.BaseTransport) -> str:
    """The address at the other end; empty where it has none, as over a unix socket."""
    peer = transport.get_extra_info("peername")
    return str(peer[0]) if isinstance(peer, tuple) else ""


def connection_of(request: web.BaseRequest) -> Connection:
    """The connection that a request came on."""
    return cast("Connection", request.protocol)


def _taken(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: web.RequestHandler,
    writer: AbstractStreamWriter,
    task: asyncio.Task[None],
) -> web.BaseRequest:
    return cast("Connection", protocol).taken(message, payload, writer, task)


def _cancel(*timers: asyncio.TimerHandle | None) -> None:
    for timer in timers:
        if timer is not None:
            timer.cancel()
