"""Errors in the shape of the API at hand: Ollama's, OpenAI's under `/v1/`, Anthropic's under `/v1/messages`."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web

_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    415: "invalid_request_error",
    429: "rate_limit_error",
    503: "overloaded_error",
}
_CODES: Final = {401: "invalid_api_key", 429: "rate_limit_exceeded"}
"""What programs look at in OpenAI's errors."""


def error_body(path: str, status: int, message: str) -> dict[str, Any]:
    """The error object that a client of this path expects."""
    kind = _TYPES.get(status, "api_error")
    if path.startswith("/v1/messages"):
        return {"type": "error", "error": {"type": kind, "message": message}}
    if path.startswith("/v1/"):
        return {"error": {"message": message, "type": kind, "param": None, "code": _CODES.get(status)}}
    return {"error": message}


def error_response(path: str, status: int, message: str, *, retry_after_s: int | None = None) -> web.Response:
    """An error that ollamad itself makes, before any byte of a child's response."""
    headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="ollamad"'
    return web.json_response(error_body(path, status, message), status=status, headers=headers)


def in_band_error(path: str, content_type: str, message: str, *, mid_line: bool) -> bytes | None:
    """The end of a stream that broke, as one more record of it; None where the format has no place for one.

    `mid_line` says that the stream broke inside a record, which is then closed first.
    """
    body = json.dumps(error_body(path, 502, message))
    if content_type == "application/x-ndjson":
        close = "\n" if mid_line else ""
        return f"{close}{body}\n".encode()
    if content_type == "text/event-stream":
        close = "\n\n" if mid_line else "\n"  # the last line may end without the event's doing so
        event = "event: error\n" if path.startswith("/v1/messages") else ""
        return f"{close}{event}data: {body}\n\n".encode()
    return None
