"""One connection to a child. It carries one request at a time; when that has gone well, it may carry the next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, cast

from ollamad.errors import Malformed
from ollamad.upstream.reply import Reply

COPIED_MAX_BYTES: Final = 65_536
"""A body up to this size goes out with its head in one call; copying a larger one costs more than a second call."""


class Link(asyncio.Protocol):
    """A connection. Whoever holds it sends a request with `ask`; what comes goes to that request's `Reply`."""

    __slots__ = (
        "_drained",
        "_lost",
        "_reply",
        "_transport",
        "_write_paused",
        "parked",
        "paused",
        "request_sent",
        "used",
    )

    def __init__(self, lost: Callable[[Link], None]) -> None:
        self._lost = lost
        self._transport: asyncio.Transport | None = None
        self._reply: Reply | None = None
        self._write_paused = False
        self._drained: asyncio.Future[None] | None = None
        self.paused = False
        self.parked: asyncio.TimerHandle | None = None
        """While it waits in the pool: what ends its wait."""
        self.request_sent = False
        """Whether the request that it carries has been sent whole."""
        self.used = False
        """Whether it has carried a request before: the child may have closed it without our knowing."""

    @property
    def open(self) -> bool:
        """Whether it can carry another request, as far as we know."""
        return self._transport is not None and not self._transport.is_closing()

    def ask(self, reply: Reply, head: bytes, body: bytes | None) -> None:
        """Send a request, or its head where the body follows (it is None then)."""
        self._reply = reply
        self.request_sent = body is not None
        if body and len(body) > COPIED_MAX_BYTES:
            self.write(head)
            self.write(body)
        else:
            self.write(head + body if body else head)

    def write(self, data: bytes) -> None:
        """More of the request."""
        if self._transport is not None:
            self._transport.write(data)

    async def drain(self) -> None:
        """Wait until the child has taken most of what was written, or is gone."""
        while self._write_paused and self._transport is not None:
            self._drained = asyncio.get_running_loop().create_future()
            try:
                await self._drained
            finally:
                self._drained = None

    def release(self) -> bool:
        """End with this request; gives whether the connection can carry another."""
        reply, self._reply = self._reply, None
        self.used = True
        if reply is None or not reply.done or reply.surplus or not self.request_sent or not self.open:
            return False
        self.resume()
        return reply.head is not None and reply.head.persistent

    def pause(self) -> None:
        """Read no more for now."""
        if not self.paused and self._transport is not None:
            self.paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self.paused and self._transport is not None:
            self.paused = False
            if not self._transport.is_closing():
                self._transport.resume_reading()

    def abort(self) -> None:
        """Close it at once: a child that generates for it stops."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It stands."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """The child says something."""
        if self._reply is None:  # a child that talks unasked: what it says could be taken for the next answer
            self.abort()
            return
        try:
            self._reply.feed(data)
        except Malformed as error:
            self._reply.fail(f"malformed response: {error}")

    def eof_received(self) -> None:
        """The child says nothing more."""
        if self._reply is not None:
            self._reply.ended("closed in the middle of its response")

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone, whoever closed it."""
        self._transport = None
        if self._reply is not None:
            self._reply.ended(str(exc) if exc else "connection lost")
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._lost(self)

    def pause_writing(self) -> None:
        """The child takes less of the request than is sent."""
        self._write_paused = True

    def resume_writing(self) -> None:
        """It takes again."""
        self._write_paused = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
