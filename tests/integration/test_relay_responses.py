"""What a child says, byte for byte, and what the client then gets."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.wire import OK, STREAM, Script, Talk, fronted, length_of

GET = b"GET /x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
GET_1_0 = b"GET /x HTTP/1.0\r\nHost: localhost\r\n\r\n"
HEAD = b"HEAD /x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def says(*pieces: bytes) -> Script:
    """A child that answers every request so, and then closes."""

    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.say(*pieces)

    return script


async def got(*pieces: bytes, request: bytes = GET) -> tuple[bytes, bytes]:
    """The head and body, as they come, that a client gets of a child that answers so."""
    async with fronted(says(*pieces)) as running:
        head, _, body = (await running.ask(request)).partition(b"\r\n\r\n")
        return head, body


@pytest.mark.parametrize("chunks", [(b"5\r\nhello\r\n0\r\n\r\n",), (b"5\r\nhe", b"llo\r\n", b"0", b"\r\n\r", b"\n")])
async def test_chunks_pass_as_chunks_to_a_client_of_1_1_and_bare_to_one_of_1_0(chunks: tuple[bytes, ...]) -> None:
    head, body = await got(STREAM, *chunks)
    assert b"Transfer-Encoding: chunked" in head
    assert body.startswith((b"5\r\nhello\r\n", b"2\r\nhe\r\n"))
    assert body.endswith(b"0\r\n\r\n")
    head, body = await got(STREAM, *chunks, request=GET_1_0)
    assert (b"Transfer-Encoding" in head, body) == (False, b"hello")
    assert b"Connection: close" in head


async def test_a_body_that_ends_with_its_connection_is_given_an_end() -> None:
    head, body = await got(b"HTTP/1.0 200 OK\r\nContent-Type: a/b\r\n\r\n", b"hello", b"!")
    assert (b"Transfer-Encoding: chunked" in head, body.endswith(b"0\r\n\r\n")) == (True, True)
    assert body.replace(b"\r\n", b"") in {b"5hello1!0", b"6hello!0"}
    assert (await got(b"HTTP/1.0 200 OK\r\n\r\n", b"hello", request=GET_1_0))[1] == b"hello"
    assert (await got(b"HTTP/1.0 200 OK\r\n\r\n"))[1] == b"0\r\n\r\n"


@pytest.mark.parametrize(
    ("status", "request_"), [(b"200 OK", HEAD), (b"304 Not Modified", GET), (b"204 No Content", GET)]
)
async def test_what_has_no_body_has_none_and_the_connection_goes_on(status: bytes, request_: bytes) -> None:
    async def script(talk: Talk) -> None:
        while True:
            await talk.request()
            await talk.say(b"HTTP/1.1 %b\r\nContent-Length: 5\r\n\r\n" % status)

    async with fronted(script) as running:
        keep = request_.replace(b"Connection: close\r\n", b"")
        answers = await running.ask(keep + request_)
        assert answers.count(b"HTTP/1.1 " + status) == 2
        assert answers.endswith(b"\r\n\r\n")
        assert running.connections == 1


async def test_interim_responses_are_passed_over() -> None:
    head, body = await got(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n" + OK)
    assert (head.startswith(b"HTTP/1.1 200 OK"), b"X: y" in head, body) == (True, False, b"ok")


@pytest.mark.parametrize("asked", [True, False])
async def test_trailers_go_to_those_who_asked_for_them(asked: bool) -> None:  # noqa: FBT001
    request = GET.replace(b"\r\n\r\n", b"\r\nTE: trailers\r\n\r\n") if asked else GET
    ending = b"0;x=y\r\nX-Sum: 1\r\nContent-Length: 3\r\n\r\n"
    _, body = await got(STREAM + b"5\r\nhello\r\n" + ending, request=request)
    assert body == b"5\r\nhello\r\n0\r\n" + (b"X-Sum: 1\r\n" if asked else b"") + b"\r\n"


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n",
    ],
)
async def test_a_child_that_breaks_http_before_the_first_byte_is_no_answer(response: bytes) -> None:
    head, _ = await got(response)
    assert head.startswith(b"HTTP/1.1 502")


@pytest.mark.parametrize("rest", [b"zz\r\n", b"5\r\nhelloX", b"5\r\nhel", b""])
async def test_a_stream_that_breaks_ends_with_a_record_that_says_so(rest: bytes) -> None:
    first, there = b'9\r\n{"a":"b"}\r\n', asyncio.Event()

    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.say(STREAM + first)
        await there.wait()
        await talk.say(rest)

    async with fronted(script) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(GET)
        await reader.readuntil(first)
        there.set()
        answer = await reader.read()
        writer.close()
        assert answer.endswith(b"0\r\n\r\n")
        assert running.relayed[0].broken
    content = unchunked(answer)
    assert content.startswith(b"hel" if rest.endswith(b"hel") else b"\n")
    assert "send the request again" in json.loads(content.splitlines()[-1])["error"]


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nContent-Length: 20\r\n\r\n", STREAM]
)
async def test_what_can_t_be_told_in_band_is_told_by_an_end_that_comes_too_soon(head: bytes) -> None:
    request = GET
    if head == STREAM:
        head = head.replace(b"application/x-ndjson", b"image/png")
    begun = b"hello" if b"Content-Length" in head else b"5\r\nhello\r\n"
    async with fronted(says(head + begun)) as running:
        try:
            answer = await running.ask(request)
        except ConnectionResetError:
            answer = b""
        assert not answer.endswith(b"0\r\n\r\n")
        assert b"send the request again" not in answer


async def test_what_a_child_says_after_its_response_reaches_nobody() -> None:
    async def script(talk: Talk) -> None:
        while True:
            await talk.request()
            await talk.say(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstray")

    async with fronted(script) as running:
        for _ in range(3):
            answer = await running.ask(GET)
            assert answer.endswith(b"\r\n\r\nok")
            assert b"stray" not in answer
        assert (running.connections, running.pool.waiting) == (3, 0)


async def test_a_child_that_speaks_unasked_loses_the_connection() -> None:
    spoke = asyncio.Event()

    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.say(OK)
        if talk.number == 0:
            await talk.say(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstray")
            await talk.reader.read()
            spoke.set()

    async with fronted(script) as running:
        assert (await running.ask(GET)).endswith(b"ok")
        await asyncio.wait_for(spoke.wait(), 5)
        assert (await running.ask(GET)).endswith(b"ok")
        assert running.connections == 2


async def test_the_end_of_a_body_is_kept_without_its_framing_and_every_piece_is_heard() -> None:
    last = b'{"done":true,"eval_count":3}\n'
    async with fronted(says(STREAM, b"2\r\na\n\r\n", b"%x\r\n%b\r\n" % (len(last), last), b"0\r\n\r\n")) as running:
        await running.ask(GET)
        assert running.relayed[0].tail == b"a\n" + last
        assert running.relayed[0].sent_bytes == 2 + len(last)
        assert running.heard >= 2


async def test_a_refusal_is_kept_and_a_huge_one_is_cut() -> None:
    head, body = await got(b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n")
    assert (head.startswith(b"HTTP/1.1 500"), body) == (True, b"no")
    head, body = await got(b"HTTP/1.1 500 No\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1_000_000)
    assert (length_of(head), len(body)) == (65_536, 65_536)
    assert (await got(b"HTTP/1.1 500 No\r\nContent-Length: 10\r\n\r\nx"))[0].startswith(b"HTTP/1.1 502")


async def test_a_stream_that_falls_silent_is_given_up_and_told() -> None:
    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.say(STREAM + b"2\r\n{}\r\n")
        await talk.reader.read()

    async with fronted(script, stream_idle_timeout_s=0.2) as running:
        assert b"send the request again" in await running.ask(GET)
        assert "silent" in str(running.relayed[0].broken)


async def test_a_child_may_take_any_time_for_its_first_byte() -> None:
    answering = asyncio.Event()

    async def script(talk: Talk) -> None:
        await talk.request()
        await answering.wait()
        await talk.say(OK)

    async with fronted(script, stream_idle_timeout_s=0.01) as running, asyncio.TaskGroup() as tasks:
        asked = tasks.create_task(running.ask(GET))
        tasks.create_task(asyncio.sleep(0.1)).add_done_callback(lambda _: answering.set())
        assert (await asked).endswith(b"ok")


@settings(max_examples=60)
@given(st.binary(max_size=120), st.sampled_from([b"", STREAM, STREAM + b"5\r\nhello\r\n", b"HTTP/1.1 200 OK\r\n"]))
def test_whatever_a_child_says_the_client_gets_an_end_and_the_next_request_its_own_answer(
    noise: bytes, begun: bytes
) -> None:
    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.say(begun + noise if talk.number == 0 else OK)

    async def one() -> None:
        async with fronted(script) as running:
            with suppress(ConnectionResetError):
                await running.ask(GET)
            assert (await running.ask(GET)).endswith(b"\r\n\r\nok")

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # the loop that a daemon runs on
        runner.run(one())


def unchunked(wire: bytes) -> bytes:
    """What is in a chunked body, read as a client does."""
    content = b""
    while wire:
        size, _, wire = wire.partition(b"\r\n")
        content, wire = content + wire[: int(size, 16)], wire[int(size, 16) + 2 :]
    return content


RECORDS = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
WHOLE = b'{"response":"a"}\n{"response":"","done":true}\n'
HALF = b'{"response":"a"}\n'


def asks(version: bytes = b"1.1") -> bytes:
    body = b'{"model":"m"}'
    head = b"POST /api/generate HTTP/%b\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    return head % (version, len(body)) + body


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
@pytest.mark.parametrize("apart", [False, True], ids=["at once", "the end apart"])
async def test_a_stream_that_ends_without_its_last_record_ends_with_an_error(version: bytes, *, apart: bool) -> None:
    """Its end is not passed on before it is known to be one."""
    chunk = b"%x\r\n%b\r\n"
    for text, is_whole in ((WHOLE, True), (HALF, False), (HALF[:-4], False)):
        pieces = (chunk % (len(text), text), b"0\r\n\r\n")
        _, body = await got(RECORDS, *(pieces if apart else (b"".join(pieces),)), request=asks(version))
        if version == b"1.1":
            assert body.endswith(b"\r\n0\r\n\r\n")
            assert body.count(b"0\r\n\r\n") == 1
        assert (b"can't be continued" in body) is not is_whole
        assert text.rstrip() in body
