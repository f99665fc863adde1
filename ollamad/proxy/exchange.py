"""One request sent to one child, and its response relayed.

The commit point is the first byte of the response: until the child has sent one, a failure is `NoAnswer` and the
request may be sent elsewhere. From then on the client holds part of an answer, and a failure ends the stream with an
error in its own format.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Protocol

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from ollamad.errors import NoAnswer
from ollamad.proxy.headers import to_child, to_client
from ollamad.proxy.shapes import in_band_error

CHILD_FAULTS: Final = (aiohttp.ClientError, OSError, TimeoutError)
REFUSAL_MAX_BYTES: Final = 65_536
"""How much of a child's 5xx is kept, to be told when no other child does better."""


class Hold(Protocol):
    """Hears whether the client holds the response up."""

    def __call__(self, *, held: bool) -> None:
        """It does, or it does no more."""


@dataclass(frozen=True, slots=True)
class Outgoing:
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


@dataclass(frozen=True, slots=True)
class Refused:
    """A child's 5xx, kept: another child may do better."""

    status: int
    headers: CIMultiDict[str]
    body: bytes

    def response(self) -> web.Response:
        """The child's own answer."""
        return web.Response(status=self.status, headers=self.headers, body=self.body)


@dataclass(frozen=True, slots=True)
class Relayed:
    """A response that went to the client."""

    response: web.StreamResponse
    sent_bytes: int
    broken: str | None = None
    """Why the child did not finish it; the client has been told."""


class Relay:
    """Sends requests to children over one pool of connections."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    @asynccontextmanager
    async def open(self, outgoing: Outgoing, base_url: str) -> AsyncIterator[Answer | Refused]:
        """Send it, and wait for the first byte of its response. Raises NoAnswer.

        Left by a cancellation, it closes the connection to the child, which makes Ollama stop generating.
        """
        upstream = await self._send(outgoing, base_url)
        try:
            if outgoing.elsewhere_on_5xx and upstream.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                yield await _refused(upstream, outgoing)
            else:
                first = await _first_bytes(upstream)
                outgoing.heard()
                yield Answer(outgoing, upstream, first)
        finally:
            # Read to its end, the connection is back in the pool by now; else it must not be used again.
            upstream.close()

    async def _send(self, outgoing: Outgoing, base_url: str) -> aiohttp.ClientResponse:
        incoming = outgoing.incoming
        try:
            return await self._session.request(
                incoming.method,
                URL(base_url + incoming.rel_url.raw_path_qs, encoded=True),
                headers=to_child(incoming.headers, incoming.scheme),
                data=outgoing.body,
                allow_redirects=False,
            )
        except CHILD_FAULTS as error:
            raise NoAnswer(_said(error)) from error


class Answer:
    """A response that a child has begun: past the commit point, nothing is sent again."""

    def __init__(self, outgoing: Outgoing, upstream: aiohttp.ClientResponse, first: bytes) -> None:
        self.status = upstream.status
        self._outgoing = outgoing
        self._upstream = upstream
        self._first = first

    async def relay(self) -> Relayed:
        """Pass it on, piece by piece as it comes, no faster than the client takes it."""
        upstream, incoming = self._upstream, self._outgoing.incoming
        headers = to_client(upstream.headers, self._outgoing.added)
        response = web.StreamResponse(status=upstream.status, reason=upstream.reason, headers=headers)
        await response.prepare(incoming)
        data, last, sent_bytes = self._first, b"", 0
        while data:
            self._outgoing.hold(held=True)
            await response.write(data)
            self._outgoing.hold(held=False)
            last, sent_bytes = data, sent_bytes + len(data)
            try:
                data = await upstream.content.readany()
                self._outgoing.heard()
            except CHILD_FAULTS as error:
                await _tell_broken(response, upstream.content_type, incoming, mid_line=not last.endswith(b"\n"))
                return Relayed(response, sent_bytes, _said(error))
        await response.write_eof()
        return Relayed(response, sent_bytes)


async def _first_bytes(upstream: aiohttp.ClientResponse) -> bytes:
    try:
        return await upstream.content.readany()
    except CHILD_FAULTS as error:
        raise NoAnswer(_said(error)) from error


async def _refused(upstream: aiohttp.ClientResponse, outgoing: Outgoing) -> Refused:
    try:
        body = await upstream.content.read(REFUSAL_MAX_BYTES)
    except CHILD_FAULTS as error:
        raise NoAnswer(_said(error)) from error
    headers = to_client(upstream.headers, outgoing.added)
    headers.popall("Content-Length", None)
    return Refused(upstream.status, headers, body)


def _said(error: BaseException) -> str:
    return str(error) or type(error).__name__


async def _tell_broken(
    response: web.StreamResponse, content_type: str, incoming: web.Request, *, mid_line: bool
) -> None:
    """End a stream that broke so that the client knows: by a record of it, else by a connection that ends too soon."""
    message = "the child that was answering is gone, and the answer can't be continued; send the request again"
    record = in_band_error(incoming.path, content_type, message, mid_line=mid_line)
    if record is not None:
        await response.write(record)
        await response.write_eof()
    elif incoming.transport is not None:
        incoming.transport.abort()
