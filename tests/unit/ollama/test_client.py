"""A child that answers nonsense: it has not answered, and nobody else is the worse for it."""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import suppress
from pathlib import Path

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


async def test_a_cancellation_in_the_very_turn_in_which_the_time_is_up_is_not_lost() -> None:
    loop = asyncio.get_running_loop()
    swallowed = False

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def ask() -> None:
        nonlocal swallowed
        with suppress(NoAnswer):
            await ChildClient(session, f"http://127.0.0.1:{port}", 0.5).version()
        swallowed = True

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, aiohttp.ClientSession() as session, asyncio.TaskGroup() as tasks:
        asking = tasks.create_task(ask())
        until_s = loop.time() + 0.5
        loop.call_at(until_s - 0.05, time.sleep, 0.1)  # the loop comes back when both are due
        loop.call_at(until_s, asking.cancel)
    assert not swallowed
    assert asking.cancelled()


def test_no_request_is_timed_by_aiohttp_which_loses_such_cancellations() -> None:
    files = (Path(__file__).parents[3] / "ollamad").rglob("*.py")
    assert [file.name for file in files if re.search(r"ClientTimeout\(total=(?!None)", file.read_text())] == []
