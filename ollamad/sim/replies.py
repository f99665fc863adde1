"""Answers as Ollama's web framework gives them, errors and streams included."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web

from ollamad.sim.golang import to_json

JSON: Final = "application/json; charset=utf-8"
NDJSON: Final = "application/x-ndjson"
PLAIN_JSON: Final = "application/json"
"""What handlers set that write by themselves."""


class Failure(Exception):
    """A request that fails, with its status and what is said of it."""

    def __init__(self, code: int, message: str, **more: object) -> None:
        super().__init__(message)
        self.status = code
        self.more = more

    @property
    def body(self) -> dict[str, Any]:
        """As Ollama shapes it."""
        return {"error": str(self), **self.more}


def reply(value: Any, status: int = HTTPStatus.OK, kind: str = JSON) -> web.Response:
    """An answer of one JSON value."""
    return web.Response(body=to_json(value), status=status, headers={"Content-Type": kind})


def empty(status: int = HTTPStatus.OK) -> web.Response:
    """An answer without a body."""
    return web.Response(status=status)


async def lines(request: web.Request, records: AsyncGenerator[Mapping[str, Any], None]) -> web.StreamResponse:
    """A stream of records, one a line. A failure on the way is its last line."""
    response = web.StreamResponse(headers={"Content-Type": NDJSON})
    async with aclosing(_with_failure(records)) as told:
        async for record in told:
            if not response.prepared:  # no header goes out before there is something to say
                await response.prepare(request)
            await response.write(to_json(record) + b"\n")
    await response.write_eof()
    return response


async def last_of(records: AsyncGenerator[Mapping[str, Any], None]) -> web.Response:
    """The end of such a stream alone, for who does not want it: progress is dropped, a failure is a status."""
    last: Mapping[str, Any] = {}
    try:
        async with aclosing(records) as told:
            async for record in told:
                last = record
    except Failure as failure:
        return reply(failure.body, failure.status, PLAIN_JSON)
    return reply(last, kind=PLAIN_JSON)


async def _with_failure(records: AsyncGenerator[Mapping[str, Any], None]) -> AsyncGenerator[Mapping[str, Any], None]:
    try:
        async with aclosing(records):
            async for record in records:
                yield record
    except Failure as failure:
        yield failure.body
