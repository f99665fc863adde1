"""Progress to a client: line by line as it comes, or the last line alone when it asked not to be kept up to date."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Final

import aiohttp
import msgspec
from aiohttp import web
from yarl import URL

from ollamad.access.holder import KeyRevoked, until_revoked
from ollamad.errors import NoAnswer
from ollamad.fleet.dispatcher import Lease
from ollamad.ollama.progress import SUCCESS, Record, failed, record_of
from ollamad.proxy.asking import CHILD_HEADER, for_child, for_client
from ollamad.proxy.shared import trip_of

NDJSON: Final = "application/x-ndjson"
JSON: Final = "application/json"
"""As Ollama has it here, and only here, without a charset."""


class Lines:
    """One client's progress. The last line is held back until `end`: until then it may turn out otherwise."""

    def __init__(self, incoming: web.Request, *, streams: bool, child: str | None = None) -> None:
        self._incoming = incoming
        self._streams = streams
        self._headers = {CHILD_HEADER: child} if child else {}
        self._response: web.StreamResponse | None = None
        self._last: Record | None = None

    @property
    def succeeded(self) -> bool:
        """Whether the last line so far says so."""
        return self._last is not None and self._last.status == SUCCESS

    async def write(self, record: Record) -> None:
        """One line more."""
        before, self._last = self._last, record
        if self._streams:
            if self._response is None:
                self._response = web.StreamResponse(headers={**self._headers, "Content-Type": NDJSON})
                await self._response.prepare(self._incoming)
            if before is not None:
                await self._response.write(before.raw)
            if not (record.error or record.status == SUCCESS):
                await self._response.write(record.raw)
                self._last = None

    @asynccontextmanager
    async def until_revoked(self) -> AsyncIterator[None]:
        """While this block lasts, a revocation of the client's key ends it, and is the last line.

        Raises KeyRevoked where nothing has gone to the client yet.
        """
        try:
            with until_revoked(trip_of(self._incoming).holder):
                yield
        except KeyRevoked as error:
            if self._response is None:
                raise
            self.spoil(str(error))

    def spoil(self, message: str) -> None:
        """What the last line said is not the whole truth: this is."""
        self._last = failed(message)

    async def relay(self, session: aiohttp.ClientSession, lease: Lease, body: bytes) -> web.Response | None:
        """Take all lines of a child's answer but hold back the last; what it refuses at once is its own answer.

        Raises NoAnswer while nothing has gone to the client; later, the last line tells that the child is gone.
        """
        try:
            async with session.request(
                self._incoming.method,
                URL(lease.base_url + self._incoming.rel_url.raw_path_qs, encoded=True),
                headers=for_child(self._incoming),
                data=body,
            ) as answer:
                self._headers = dict(for_client(self._incoming, answer, self._headers))
                if answer.status >= HTTPStatus.BAD_REQUEST:
                    return web.Response(status=answer.status, headers=self._headers, body=await answer.read())
                async for line in answer.content:
                    lease.heard()
                    if line.strip():
                        await self.write(_read(line))
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            if self._response is None:
                raise NoAnswer(str(error) or type(error).__name__) from error
            self._last = failed("the child that was at it is gone; send the request again")
        return None

    async def end(self) -> web.StreamResponse:
        """The last line, and the end."""
        if self._response is None:
            last = self._last or failed("it ended without a result; send the request again")
            status = HTTPStatus.INTERNAL_SERVER_ERROR if last.error else HTTPStatus.OK
            return web.Response(status=status, headers={**self._headers, "Content-Type": JSON}, body=last.raw.rstrip())
        if self._last is not None:
            await self._response.write(self._last.raw)
        await self._response.write_eof()
        return self._response


def _read(line: bytes) -> Record:
    try:
        return record_of(line)
    except msgspec.DecodeError:
        return Record(line)  # of a newer Ollama: passed on as it is
