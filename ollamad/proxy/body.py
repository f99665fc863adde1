"""A request's body: kept whole where it may have to be sent again, else passed on as it comes. Slow clients are cut."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Final

from aiohttp import ClientPayloadError, web
from aiohttp.http import HttpProcessingError, HttpVersion11

from ollamad.errors import ClientError
from ollamad.proxy.connection import connection_of
from ollamad.proxy.shared import trip_of

MALFORMED: Final = (web.RequestPayloadError, ClientPayloadError, HttpProcessingError)
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


async def kept(request: web.Request, max_bytes: int) -> bytes:
    """The whole body.

    Raises ClientError when it is larger than `max_bytes`, comes too slowly, or is malformed, and CapacityError when
    all the bodies that are kept would be too much.
    """
    if (request.content_length or 0) > max_bytes:
        raise _too_large(max_bytes)
    shared, trip = connection_of(request).shared, trip_of(request)
    if request.content.is_eof():
        whole = request.content.read_nowait(-1)
        if len(whole) > max_bytes:
            raise _too_large(max_bytes)
        shared.keep(trip, len(whole))
        return whole
    settings = shared.settings
    parts = bytearray()
    _invite(request)
    began_s = asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout(settings.body_timeout_s) as limit:
            async for part in request.content.iter_any():
                parts += part
                if len(parts) > max_bytes:
                    raise _too_large(max_bytes)
                shared.keep(trip, len(part))
                limit.reschedule(began_s + settings.body_timeout_s + len(parts) / settings.body_rate_min_bytes_s)
    except TimeoutError as error:
        raise _too_slow(len(parts)) from error
    except MALFORMED as error:
        raise _malformed(error) from error
    return bytes(parts)


async def streamed(request: web.Request) -> AsyncIterator[bytes]:
    """The body piece by piece, read no faster than it is taken. Raises ClientError, as above."""
    timeout_s = connection_of(request).shared.settings.body_timeout_s
    received_bytes = 0
    _invite(request)
    try:
        while True:
            async with asyncio.timeout(timeout_s):
                part = await request.content.readany()
            if not part:
                return
            received_bytes += len(part)
            yield part
    except TimeoutError as error:
        raise _too_slow(received_bytes) from error
    except MALFORMED as error:
        raise _malformed(error) from error


def _invite(request: web.Request) -> None:
    """Tell a client that asked first that its body is wanted (RFC 9110 section 10.1.1)."""
    asked = request.headers.get("Expect", "").lower() == "100-continue" and request.version >= HttpVersion11
    if asked and request.transport is not None and not request.content.is_eof():
        request.transport.write(CONTINUE)


def _too_large(max_bytes: int) -> ClientError:
    return ClientError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"the request is larger than {max_bytes} bytes; raise [proxy] body_max_bytes if it must be",
    )


def _too_slow(received_bytes: int) -> ClientError:
    return ClientError(
        HTTPStatus.REQUEST_TIMEOUT, f"the request's body came too slowly: {received_bytes} bytes, then nothing in time"
    )


def _malformed(error: Exception) -> ClientError:
    return ClientError(HTTPStatus.BAD_REQUEST, f"the request's body is malformed: {error}")
