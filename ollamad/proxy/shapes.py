"""Errors in the shape of the API at hand: Ollama's, OpenAI's under `/v1/`, Anthropic's under `/v1/messages`.

And how a stream of each ends when it is whole. Ollama itself ends a stream under `/v1/` without a word when its runner
dies (0.5.4: the record with the error is taken for one without content), so that clients take half an answer for one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web

from ollamad.upstream.tail import TAIL_MAX_BYTES

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
    if content_type == _RECORDS:
        close = "\n" if mid_line else ""
        return f"{close}{body}\n".encode()
    if content_type == _EVENTS:
        close = "\n\n" if mid_line else "\n"  # the last line may end without the event's doing so
        event = "event: error\n" if path.startswith("/v1/messages") else ""
        return f"{close}{event}data: {body}\n\n".encode()
    return None


def whole_by(path: str, content_type: str) -> Callable[[bytes], bool] | None:
    """What tells from a stream's end whether it is whole: its last record says so, or is an error. None: nothing.

    Of a record that is longer than what was kept of the stream nothing can be told; it passes for the last. The one of
    `/api/generate` is, where its `context` is long.
    """
    return _ENDS.get((path, content_type))


def _ends_with(*signs: bytes, line: bytes | None = None) -> Callable[[bytes], bool]:
    """Whether the last line that holds something is this one, or has one of the signs in it."""

    def is_whole(end: bytes) -> bool:
        before, newline, last = end.rstrip().rpartition(b"\n")
        if not newline and len(before + last) >= TAIL_MAX_BYTES - 2:
            return True
        return end.endswith(b"\n") and (last == line or any(sign in last for sign in signs))

    return is_whole


_RECORDS: Final = "application/x-ndjson"
_EVENTS: Final = "text/event-stream"
_ERROR: Final = b'"error"'
_ENDS: Final = {
    ("/api/generate", _RECORDS): _ends_with(b'"done":true', _ERROR),
    ("/api/chat", _RECORDS): _ends_with(b'"done":true', _ERROR),
    ("/v1/completions", _EVENTS): _ends_with(_ERROR, line=b"data: [DONE]"),
    ("/v1/chat/completions", _EVENTS): _ends_with(_ERROR, line=b"data: [DONE]"),
    ("/v1/messages", _EVENTS): _ends_with(b'"message_stop"', _ERROR),
}
