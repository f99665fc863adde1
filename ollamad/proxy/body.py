"""A request's body: kept whole where it may have to be sent again, else passed on as it comes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from http import HTTPStatus

from aiohttp import web

from ollamad.errors import ClientError


async def kept(request: web.Request, max_bytes: int) -> bytes:
    """The whole body. Raises ClientError when it is larger than `max_bytes`."""
    if (request.content_length or 0) > max_bytes:
        raise _too_large(max_bytes)
    parts = bytearray()
    async for part in request.content.iter_any():
        parts += part
        if len(parts) > max_bytes:
            raise _too_large(max_bytes)
    return bytes(parts)


def streamed(request: web.Request) -> AsyncIterator[bytes]:
    """The body piece by piece, read no faster than it is taken."""
    return request.content.iter_any()


def _too_large(max_bytes: int) -> ClientError:
    return ClientError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"the request is larger than {max_bytes} bytes; raise [proxy] body_max_bytes if it must be",
    )
