from __future__ import annotations

from contextlib import aclosing

import aiohttp
import pytest
from aiohttp import web
from pytest_aiohttp.plugin import AiohttpServer

from ollamad.errors import NoAnswer, Refusal
from ollamad.ollama.progress import Record, failed, made, progress, record_of


async def told(aiohttp_server: AiohttpServer, *lines: bytes, status: int = 200) -> list[Record]:
    """What `progress` makes of a child that answers these lines and ends."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=status, headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        for line in lines:
            await response.write(line)
        return response

    application = web.Application()
    application.router.add_post("/api/pull", answer)
    server = await aiohttp_server(application)
    heard: list[None] = []
    async with aiohttp.ClientSession() as session:
        records = progress(session, str(server.make_url("/api/pull")), b"{}", lambda: heard.append(None))
        async with aclosing(records):
            found = [record async for record in records]
    assert len(heard) >= len(found)
    return found


async def test_records_come_line_by_line_and_the_last_is_the_result(aiohttp_server: AiohttpServer) -> None:
    found = await told(
        aiohttp_server,
        b'{"status":"pulling manifest"}\n\n{"status":"pulling ab","digest":"sha256:ab","total":9,',
        b'"completed":3}\n{"status":"success"}\n{"status":"never read"}\n',
    )
    assert [record.status for record in found] == ["pulling manifest", "pulling ab", "success"]
    assert (found[1].topic, found[1].total_bytes, found[1].completed_bytes) == ("sha256:ab", 9, 3)


@pytest.mark.parametrize("line", [b'{"error":"no such model"}\n', b'{"error":"no such model","status":400}\n'])
async def test_an_error_is_a_result_too(aiohttp_server: AiohttpServer, line: bytes) -> None:
    (record,) = await told(aiohttp_server, line)
    assert (record.error, record.status, record.raw) == ("no such model", "", line)


NESTED = b'{"more":' + b"[" * 30_000 + b"\n"


@pytest.mark.parametrize("lines", [(), (b'{"status":"pulling"}\n',), (b"not json\n",), (NESTED,), (b"x" * 300_000,)])
async def test_an_end_without_a_result_is_no_answer(aiohttp_server: AiohttpServer, lines: tuple[bytes, ...]) -> None:
    with pytest.raises(NoAnswer):
        await told(aiohttp_server, *lines)


async def test_a_no_at_once_is_the_child_s_own(aiohttp_server: AiohttpServer) -> None:
    with pytest.raises(Refusal, match="invalid model name") as refused:
        await told(aiohttp_server, b'{"error":"invalid model name"}', status=400)
    assert (refused.value.status, refused.value.body) == (400, b'{"error":"invalid model name"}')


def test_our_own_records_are_in_ollama_s_shape() -> None:
    assert made("copying ab", "sha256:ab", 9, 3).raw == (
        b'{"status":"copying ab","digest":"sha256:ab","total":9,"completed":3}\n'
    )
    for record in (made("success"), failed("it broke"), made("a", "b", 1, 2)):
        assert record_of(record.raw) == record
