"""How a request goes out to a child, and in what form its response comes back to the client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable, Mapping
from http import HTTPStatus
from typing import Final

import msgspec
from aiohttp import web
from aiohttp.http import HttpVersion11

from ollamad.proxy.headers import encoded, request_head, response_head, to_child
from ollamad.proxy.shapes import in_band_error
from ollamad.proxy.shared import trip_of
from ollamad.upstream.framing import LAST_CHUNK, chunk
from ollamad.upstream.head import Field, Head
from ollamad.upstream.pool import Question
from ollamad.upstream.reply import Reply

BROKEN: Final = "the child that was answering is gone, and the answer can't be continued; send the request again"


class Form(msgspec.Struct, frozen=True):
    """How the client is sent a response."""

    chunked: bool
    keep_alive: bool
    fields: list[Field]
    """What says so."""


def form_of(incoming: web.Request, head: Head) -> Form:
    """How this client is sent a response with this head."""
    is_1_1 = incoming.version >= HttpVersion11
    keep_alive = incoming.keep_alive and incoming.content.is_eof()  # else it may be that nobody reads the rest of it
    chunked = False
    fields: list[Field] = []
    if head.length is not None and head.status != HTTPStatus.NO_CONTENT:
        fields.append((b"Content-Length", b"%d" % head.length))
    elif head.has_body(incoming.method) and is_1_1:
        chunked = True
        fields.append((b"Transfer-Encoding", b"chunked"))
    elif head.has_body(incoming.method):
        keep_alive = False
    if not keep_alive:
        fields.append((b"Connection", b"close"))
    elif not is_1_1:
        fields.append((b"Connection", b"keep-alive"))
    return Form(chunked, keep_alive, fields)


def client_head(incoming: web.Request, head: Head, form: Form, added: Mapping[str, str]) -> bytes:
    """The response's head as the client gets it, with what ollamad adds."""
    return response_head(head, added, form.fields, encoded(trip_of(incoming).for_client))


def question_of(
    incoming: web.Request,
    body: bytes | AsyncIterable[bytes] | None,
    address: str,
    heard: Callable[[], None],
    waits: Callable[[Callable[[str], None]], None],
) -> Question:
    """A client's request as the child at this address gets it."""
    fields = [(b"Host", address.encode()), *to_child(incoming.raw_headers), *trip_of(incoming).for_child]
    whole = body if isinstance(body, bytes) else b"" if body is None else None
    length = incoming.content_length if whole is None else len(whole)
    if length is None:
        fields.append((b"Transfer-Encoding", b"chunked"))
    elif length or incoming.method in {"POST", "PUT", "PATCH"} or "Content-Length" in incoming.headers:
        fields.append((b"Content-Length", b"%d" % length))
    head = request_head(incoming.method, _target(incoming), fields)
    return Question(address, incoming.method, head, whole, heard, waits)


def _target(incoming: web.Request) -> bytes:
    """The path and query as the client wrote them, without the scheme and host that a proxy's client would add."""
    raw = incoming.raw_path
    if not raw.startswith("/") or "#" in raw:
        raw = incoming.rel_url.raw_path_qs
    return raw.encode("utf-8", "surrogateescape")


def content_type_of(head: Head) -> str:
    """A response's media type, without its parameters."""
    return head.first(b"content-type").partition(b";")[0].strip().lower().decode("latin-1")


def tell_broken(
    transport: asyncio.Transport, incoming: web.Request, head: Head, reply: Reply, form: Form, why: str = BROKEN
) -> bool:
    """End a stream that broke so that the client knows: by a record of it, else by a connection that ends too soon.

    `why` is what the record says. Gives whether the connection can still be used.
    """
    mid_line = not reply.tail.ends_line()
    record = in_band_error(incoming.path, content_type_of(head), why, mid_line=mid_line)
    if record is None or head.length is not None or transport.is_closing():
        transport.abort()
        return False
    transport.write(chunk(record) + LAST_CHUNK if form.chunked else record)
    return True
