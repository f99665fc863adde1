"""A client's request put to one certain child, or to all of them, and their whole answers.

For what ollamad answers from several children. Answers are small (lists, facts, a line); what streams is relayed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

import aiohttp
import structlog
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from ollamad.errors import NoAnswer
from ollamad.ollama.client import UNTIMED
from ollamad.proxy.headers import to_child, to_client
from ollamad.proxy.shared import trip_of
from ollamad.routing.snapshot import ChildView
from ollamad.upstream.head import Field

log = structlog.get_logger()

CHILD_HEADER = "X-Ollamad-Child"
QUEUE_HEADER = "X-Ollamad-Queue-Ms"


@dataclass(frozen=True, slots=True)
class Said:
    """One child's whole answer."""

    child: str
    status: int
    headers: CIMultiDict[str]
    body: bytes
    chunked: bool = False
    """Whether it came without its length: so it goes on, as from the child itself."""

    @property
    def ok(self) -> bool:
        """Whether it did what it was asked."""
        return self.status < HTTPStatus.BAD_REQUEST

    def response(self, body: bytes | None = None) -> web.Response:
        """The answer for the client, as it is or with another body."""
        answer = web.Response(status=self.status, headers=self.headers, body=self.body if body is None else body)
        if self.chunked:
            answer.enable_chunked_encoding()
        return answer


def for_child(incoming: web.Request) -> CIMultiDict[str]:
    """A client's header fields for a child that is asked through our own session."""
    return _text([*to_child(incoming.raw_headers), *trip_of(incoming).for_child])


def for_client(
    incoming: web.Request, answer: aiohttp.ClientResponse, added: Mapping[str, str], *, keep_length: bool = False
) -> CIMultiDict[str]:
    """A child's header fields for the client, and what ollamad adds; without a length, as the body may be another."""
    headers = _text(to_client(answer.raw_headers, added))
    if keep_length and (length := answer.headers.get("Content-Length")) is not None:
        headers["Content-Length"] = length
    headers.update(trip_of(incoming).for_client)
    return headers


def _text(fields: Iterable[Field]) -> CIMultiDict[str]:
    return CIMultiDict((name.decode("latin-1"), value.decode("utf-8", "replace")) for name, value in fields)


async def ask(
    session: aiohttp.ClientSession,
    child: str,
    base_url: str,
    incoming: web.Request,
    body: bytes | AsyncIterable[bytes] | None,
    *,
    timeout_s: float | None = None,
    method: str | None = None,
) -> Said:
    """Put it to one child, by the client's own method where none is given. Raises NoAnswer."""
    method = method or incoming.method
    try:
        async with (
            asyncio.timeout(timeout_s),
            session.request(
                method,
                URL(base_url + incoming.rel_url.raw_path_qs, encoded=True),
                headers=for_child(incoming),
                data=body or None,
                allow_redirects=False,
                timeout=UNTIMED,
            ) as answer,
        ):
            headers = for_client(incoming, answer, {CHILD_HEADER: child}, keep_length=method == "HEAD")
            chunked = "Content-Length" not in answer.headers
            return Said(child, answer.status, headers, await answer.read(), chunked)
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise NoAnswer(f"{child}: {str(error) or type(error).__name__}") from error


async def ask_all(
    session: aiohttp.ClientSession,
    children: Iterable[ChildView],
    incoming: web.Request,
    body: bytes | None,
    timeout_s: float,
    method: str | None = None,
) -> tuple[list[Said], list[NoAnswer]]:
    """Put it to every child that takes requests, at once; what they said, in their order, and who did not answer."""

    async def one(child: ChildView) -> Said | NoAnswer:
        try:
            base_url = f"http://127.0.0.1:{child.port}"
            return await ask(session, child.id, base_url, incoming, body, timeout_s=timeout_s, method=method)
        except NoAnswer as error:
            log.warning("child left out", child=child.id, path=incoming.path, reason=str(error))
            return error

    async with asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(one(child)) for child in children if child.routable]
    answers = [task.result() for task in asked]
    said = [answer for answer in answers if isinstance(answer, Said)]
    return said, [answer for answer in answers if isinstance(answer, NoAnswer)]
