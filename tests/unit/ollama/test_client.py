"""A child that answers nonsense: it has not answered, and nobody else is the worse for it."""

from __future__ import annotations

import aiohttp
import pytest
from aiohttp import web
from pytest_aiohttp.plugin import AiohttpServer

from ollamad.errors import NoAnswer
from ollamad.ollama.client import ChildClient

NONSENSE = {
    "no JSON": b"<html>",
    "no object": b'"0.9.3"',
    "no text": b'{"version": "\xff\xfe"}',
    "no end": b'{"version": "0.9.3", "more": ' + b"[" * 100_000,
    "another type": b'{"version": 9}',
}


@pytest.mark.parametrize("kind", NONSENSE)
async def test_what_is_no_answer_is_told_as_none(aiohttp_server: AiohttpServer, kind: str) -> None:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(body=NONSENSE[kind], content_type="application/json")

    application = web.Application()
    application.router.add_get("/api/version", answer)
    server = await aiohttp_server(application)
    async with aiohttp.ClientSession() as session:
        with pytest.raises(NoAnswer, match="/api/version"):
            await ChildClient(session, str(server.make_url("")), 5.0).version()
