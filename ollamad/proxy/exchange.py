"""One request sent to one child, and its response relayed.

The commit point is the first byte of the response's body (or its end): until the child has sent it, a failure is
`NoAnswer` and the request may be sent elsewhere. From then on the client holds part of an answer, and a failure ends
the stream with an error in its own format.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache, partial
from http import HTTPStatus
from types import TracebackType
from typing import Final, Protocol

import msgspec
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from multidict import CIMultiDict

from ollamad.access.holder import REVOKED, ended_by
from ollamad.config.schema import Proxy
from ollamad.errors import NoAnswer
from ollamad.proxy.connection import connection_of
from ollamad.proxy.form import BROKEN, client_head, content_type_of, form_of, question_of, tell_broken
from ollamad.proxy.headers import to_client, trailers
from ollamad.proxy.shapes import whole_by
from ollamad.proxy.shared import trip_of
from ollamad.upstream.framing import LAST_CHUNK, chunk
from ollamad.upstream.head import Head
from ollamad.upstream.link import Link
from ollamad.upstream.pool import Pool, Question
from ollamad.upstream.reply import Reply
from ollamad.upstream.tail import TAIL_MAX_BYTES

REFUSAL_MAX_BYTES: Final = 65_536
"""How much of a child's 5xx is kept, to be told when no other child does better."""
NOBODY_ENDS_IT: Final = nullcontext()
STREAMS: Final = (b"application/x-ndjson", b"text/event-stream")
"""What the content types of answers that come piece by piece begin with."""


class Hold(Protocol):
    """Hears whether the client holds the response up."""

    def __call__(self, *, held: bool) -> None:
        """It does, or it does no more."""


class Outgoing(msgspec.Struct, frozen=True):
    """A request on its way to a child."""

    incoming: web.Request
    body: bytes | AsyncIterable[bytes] | None
    elsewhere_on_5xx: bool
    added: Mapping[str, str]
    """Headers that ollamad adds to the response."""
    heard: Callable[[], None]
    """Called for every piece of the response that comes."""
    hold: Hold
    """Called when the client does not take what has come, and when it does again."""
    waits: Callable[[Callable[[str], None]], None]
    """Told how the wait for the response is given up, whenever the request is sent."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A child's 5xx, kept: another child may do better."""

    status: int
    headers: CIMultiDict[str]
    body: bytes

    def response(self) -> web.Response:
        """The child's own answer."""
        return web.Response(status=self.status, headers=self.headers, body=self.body)


class Relayed(msgspec.Struct, frozen=True):
    """A response that went to the client."""

    response: web.StreamResponse
    sent_bytes: int
    """Of its body."""
    broken: str | None = None
    """Why it is not finished: the child's fault, unless it is `REVOKED`. The client has been told."""
    tail: bytes = b""
    """The end of its body, 8 KiB at most: where the final record of a stream stands, with its counts."""


class Sent(web.StreamResponse):
    """A response that is with the client already: nothing is left to be done but to say whether to go on."""

    def __init__(self, status: int, *, keep_alive: bool) -> None:
        super().__init__(status=status)
        self._keep_alive = keep_alive

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:  # noqa: ARG002
        """Its head has been sent."""
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """So has its end."""


@lru_cache(maxsize=256)  # nothing in it is of one response, and making one takes 3 µs
def sent(status: int, *, keep_alive: bool) -> Sent:
    """A response with this status, sent."""
    return Sent(status, keep_alive=keep_alive)


class Relay:
    """Sends requests to children over one pool of connections."""

    def __init__(self, pool: Pool, settings: Callable[[], Proxy]) -> None:
        self._pool = pool
        self._settings = settings

    def open(self, outgoing: Outgoing, base_url: str) -> AbstractAsyncContextManager[Answer | Refused]:
        """Send it, and wait for the first byte of its response. Raises NoAnswer, and ClientError of a streamed body.

        Left by a cancellation, it closes the connection to the child, which makes Ollama stop generating.
        """
        body = outgoing.body
        address = base_url.removeprefix("http://")
        question = question_of(outgoing.incoming, body, address, outgoing.heard, outgoing.waits)
        if body is None or isinstance(body, bytes):
            return _Opened(self._pool, question, outgoing, self._settings().stream_idle_timeout_s)
        return self._uploaded(outgoing, body, question)

    @asynccontextmanager
    async def _uploaded(
        self, outgoing: Outgoing, body: AsyncIterable[bytes], question: Question
    ) -> AsyncIterator[Answer | Refused]:
        async with (
            self._pool.ask(question) as (link, reply),
            _uploading(body, link, chunked=outgoing.incoming.content_length is None),
        ):
            yield await _answer(outgoing, link, reply, self._settings().stream_idle_timeout_s)


class _Opened(AbstractAsyncContextManager["Answer | Refused"]):
    """A request whose body is kept, sent. A class, not a generator around another: every request has one."""

    __slots__ = ("_idle_s", "_link", "_outgoing", "_pool", "_question")

    def __init__(self, pool: Pool, question: Question, outgoing: Outgoing, idle_s: float) -> None:
        self._pool = pool
        self._question = question
        self._outgoing = outgoing
        self._idle_s = idle_s
        self._link: Link | None = None

    async def __aenter__(self) -> Answer | Refused:
        self._link, reply = await self._pool.begin(self._question)
        head = reply.head
        if head is not None and head.status < HTTPStatus.INTERNAL_SERVER_ERROR:
            return Answer(self._outgoing, head, self._link, reply, self._idle_s)
        try:
            return await _answer(self._outgoing, self._link, reply, self._idle_s)
        except BaseException as error:
            self._pool.end(self._question.address, self._link, error)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._link is not None:
            self._pool.end(self._question.address, self._link, error)


async def _answer(outgoing: Outgoing, link: Link, reply: Reply, idle_s: float) -> Answer | Refused:
    head = await reply.begin()
    if outgoing.elsewhere_on_5xx and head.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return await _refused(outgoing, head, reply)
    return Answer(outgoing, head, link, reply, idle_s)


class Answer:
    """A response that a child has begun: past the commit point, nothing is sent again."""

    __slots__ = ("_head", "_idle_s", "_link", "_outgoing", "_reply", "status")

    def __init__(self, outgoing: Outgoing, head: Head, link: Link, reply: Reply, idle_s: float) -> None:
        self.status = head.status
        self._outgoing = outgoing
        self._head = head
        self._link = link
        self._reply = reply
        self._idle_s = idle_s

    @property
    def streams(self) -> bool:
        """Whether it is told piece by piece."""
        return self._head.first(b"content-type").startswith(STREAMS)

    @property
    def _is_answer(self) -> bool:
        return self.status == HTTPStatus.OK and self._head.length is None

    async def said(self) -> bytes | None:
        """All of a short error, before any of it has been passed on; None where it is long, or of unknown length."""
        if self._head.length is None or self._head.length > TAIL_MAX_BYTES:
            return None
        return self._reply.tail.bytes() if await self._reply.finish(self._idle_s) is None else None

    async def relay(self) -> Relayed:
        """Pass it on, piece by piece as it comes, no faster than the client takes it."""
        incoming, reply = self._outgoing.incoming, self._reply
        connection = connection_of(incoming)
        await incoming.writer.drain()
        transport = connection.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client is gone")
        form = form_of(incoming, self._head)
        connection.source = _Held(self._link, self._outgoing.hold)
        holder = trip_of(incoming).holder
        try:
            with ended_by(holder, partial(reply.fail, REVOKED)) if holder else NOBODY_ENDS_IT:
                reply.attach(
                    client_head(incoming, self._head, form, self._outgoing.added),
                    transport.write,
                    chunked=form.chunked,
                    trailers=trailers if "trailers" in incoming.headers.get("TE", "").lower() else None,
                    whole=whole_by(incoming.path, content_type_of(self._head)) if self._is_answer else None,
                )
                broken = await reply.finish(self._idle_s)
        except BaseException:
            transport.abort()  # it has part of a response: nothing that we could say would be understood
            raise
        finally:
            connection.source = None
        keep_alive = form.keep_alive
        if broken is not None:
            why = REVOKED if broken is REVOKED else BROKEN
            keep_alive = tell_broken(transport, incoming, self._head, reply, form, why) and keep_alive
        return Relayed(sent(self.status, keep_alive=keep_alive), reply.body_bytes, broken, reply.tail.bytes())


class _Held(msgspec.Struct, frozen=True):
    """A response's source, as the client's connection knows it: what holds it up is told."""

    link: Link
    hold: Hold

    def pause(self) -> None:
        self.link.pause()
        self.hold(held=True)

    def resume(self) -> None:
        self.link.resume()
        self.hold(held=False)

    def abort(self) -> None:
        self.link.abort()


@asynccontextmanager
async def _uploading(body: AsyncIterable[bytes], link: Link, *, chunked: bool) -> AsyncIterator[None]:
    """Send a body while the response is waited for and passed on: a child may answer before it has read it all."""
    try:
        async with asyncio.TaskGroup() as tasks:
            sending = tasks.create_task(_send(body, link, chunked=chunked), name="upload")
            yield
            sending.cancel()
    except BaseExceptionGroup as group:  # the caller knows the one error that it is, not groups of one
        raise group.exceptions[0] from None


async def _send(body: AsyncIterable[bytes], link: Link, *, chunked: bool) -> None:
    async for part in body:
        link.write(chunk(part) if chunked else part)
        await link.drain()
    if chunked:
        link.write(LAST_CHUNK)
    link.request_sent = True


async def _refused(outgoing: Outgoing, head: Head, reply: Reply) -> Refused:
    """A refusal, as much of it as is kept. Raises NoAnswer."""
    body = bytearray()

    def keep(part: bytes) -> None:
        body.extend(part)
        if len(body) > REFUSAL_MAX_BYTES:
            reply.fail("a refusal that is too long")

    reply.attach(b"", keep, chunked=False)
    broken = await reply.finish()
    if broken is not None and len(body) <= REFUSAL_MAX_BYTES:
        raise NoAnswer(broken)
    headers = CIMultiDict(
        (name.decode("latin-1"), value.decode("utf-8", "replace"))
        for name, value in to_client(head.fields, outgoing.added)
    )
    return Refused(head.status, headers, bytes(body[:REFUSAL_MAX_BYTES]))
