"""What clients do to a relay: slow, impatient, pipelined, half closed, uploading, and not quite HTTP."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import suppress
from typing import Any

import pytest

from tests.support.daemon import until
from tests.support.wire import OK, STREAM, Talk, fronted, length_of

GET = b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n"
CLOSE = b"GET /x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


async def obliging(talk: Talk) -> None:
    """Answers every request with its own first line and the length of its body."""
    while True:
        head, body = await talk.request()
        said = head.split(b"\r\n")[0] + b" %d" % len(body)
        await talk.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(said), said))


SMUGGLED = [
    b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 5, 5\r\n\r\nhello",
    b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: +5\r\n\r\nhello",
    b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 0x5\r\n\r\nhello",
    b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 5 0\r\n\r\nhello",
    b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n",
    b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /evil",
    b"POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\nGET /evil",
    b"POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    b"POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    b"POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    b"POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    b"POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
    b"POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n+5\r\nhello\r\n0\r\n\r\n",
    b"POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n",
    b"POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n",
    b"POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff1\r\nhello\r\n0\r\n\r\n",
    b"POST /x HTTP/1.1\r\nHost: h\r\nX: a\r\n Content-Length: 5\r\n\r\nhello",
    b"GET /x HTTP/1.1\r\nHost: h\r\nX: a\rY: b\r\n\r\n",
    b"GET /x HTTP/1.1\r\nHost: h\r\nX: a\x00b\r\n\r\n",
    b"GET /x HTTP/1.1\nHost: h\n\n",
    b"GET /x HTTP/1.1\r\nHost: h\nX: y\r\n\r\n",
    b"GET /x HTTP/1.1\r\nHost: h\r\nHost: other\r\n\r\n",
    b"GET /x HTTP/1.1\r\n\r\n",
    b"GET /x y HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET /x HTTP/2.0\r\nHost: h\r\n\r\n",
    b"G@T /x HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET /x HTTP/1.1\r\nHost: h\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
    b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: h\r\n\r\n",
]


@pytest.mark.parametrize("path", [b"/x", b"/upload"])
@pytest.mark.parametrize("raw", SMUGGLED, ids=range(len(SMUGGLED)))
async def test_what_two_servers_could_read_in_two_ways_is_refused_and_nothing_behind_it_is_served(
    raw: bytes, path: bytes
) -> None:
    heads: list[bytes] = []

    async def script(talk: Talk) -> None:
        while True:
            heads.append((await talk.request())[0])
            await talk.say(OK)

    async with fronted(script, linger_s=0.1) as running:
        answer = await running.ask(raw.replace(b" /x ", b" %b " % path) + b"GET /evil HTTP/1.1\r\nHost: h\r\n\r\n")
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.0 400", b"HTTP/1.1 502"))
    assert b"200 OK" not in answer
    assert not [head for head in heads if b"evil" in head]


async def test_pipelined_requests_are_answered_in_their_order() -> None:
    requests = [b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n" % number for number in range(20)]
    async with fronted(obliging) as running:
        answer = await running.ask(b"".join(requests) + CLOSE)
    lines = [line for line in answer.split(b"\r\n") if b"GET /" in line]
    assert [line.split(b"HTTP/1.1 0")[0] for line in lines] == [b"GET /%d " % n for n in range(20)] + [b"GET /x "]


async def test_short_questions_of_a_client_that_closed_its_half_are_answered() -> None:
    async with fronted(obliging) as running:
        answer = await running.ask(GET + GET, half_close=True)
    assert answer.count(b"200 OK") == 2


async def test_a_client_that_closed_its_half_is_not_waited_with_for_long() -> None:
    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.reader.read()

    async with fronted(script, linger_s=0.1) as running:
        with suppress(ConnectionResetError):
            assert await running.ask(GET, half_close=True) == b""
        await until(lambda: running.left == 1)
        assert running.pool.busy == 0


async def test_a_client_that_closed_its_half_has_left_its_generation() -> None:
    gone = asyncio.Event()

    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.reader.read()
        gone.set()

    async with fronted(script) as running:
        assert await running.ask(b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", half_close=True) == b""
        await asyncio.wait_for(gone.wait(), 5)
        assert (running.left, running.pool.busy) == (1, 0)


@pytest.mark.parametrize("begun", [False, True])
async def test_a_client_that_leaves_ends_its_request_at_the_child_at_once(begun: bool) -> None:  # noqa: FBT001
    gone = asyncio.Event()

    async def script(talk: Talk) -> None:
        await talk.request()
        if begun:
            await talk.say(STREAM + b"2\r\n{}\r\n")
        try:
            await talk.reader.read()
        finally:
            gone.set()

    async with fronted(script) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(GET.replace(b"GET", b"POST"))
        if begun:
            await reader.readuntil(b"{}\r\n")
        await until(lambda: running.pool.busy == 1)
        writer.transport.abort()
        await asyncio.wait_for(gone.wait(), 5)
        await until(lambda: running.left == 1)
        assert (running.pool.busy, running.pool.waiting) == (0, 0)


async def test_a_client_that_reads_slowly_stops_the_reading_from_its_child() -> None:
    megabyte = b"x" * (1 << 20)
    sent = 0

    async def script(talk: Talk) -> None:
        nonlocal sent
        await talk.request()
        talk.writer.transport.set_write_buffer_limits(high=1)
        await talk.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (64 << 20))
        for _ in range(64):
            await talk.say(megabyte)
            sent += len(megabyte)

    async with fronted(script, stream_idle_timeout_s=0.1) as running:  # its waiting is not the child's silence
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port, limit=1024)
        writer.write(CLOSE)
        await reader.readuntil(b"\r\n\r\n")
        stopped = -1
        while stopped != sent:  # until the buffers of four sockets are full
            stopped = sent
            await asyncio.sleep(0.2)
        assert sent < 32 << 20
        total = 0
        while piece := await reader.read(1 << 20):
            total += len(piece)
        assert total == 64 << 20
        assert (running.held[0], False in running.held) == (True, True), "told so, and that it takes again"
        writer.close()


async def test_a_client_that_takes_nothing_is_cut() -> None:
    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (256 << 20))
        for _ in range(256):
            await talk.say(b"x" * (1 << 20))

    async with fronted(script, client_stall_timeout_s=0.2) as running:
        with socket.create_connection(("127.0.0.1", running.port)) as client:
            client.sendall(GET)
            await until(lambda: running.left == 1)
            assert running.pool.busy == 0


async def test_what_is_left_of_a_response_does_not_wait_for_ever_for_a_client_that_takes_nothing() -> None:
    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (32 << 20), b"x" * (32 << 20))

    limits: dict[str, Any] = {
        "stream_buffer_max_bytes": 1 << 27,
        "keepalive_timeout_s": 0.1,
        "client_stall_timeout_s": 0.3,
    }
    async with fronted(script, **limits) as running:
        with socket.create_connection(("127.0.0.1", running.port)) as client:
            client.sendall(GET)
            await until(lambda: len(running.relayed) == 1)
            await until(lambda: running.shared.connections == 0)


async def test_fields_that_are_no_text_pass_as_they_are() -> None:
    async def script(talk: Talk) -> None:
        head, _ = await talk.request()
        value = head.partition(b"X-Odd: ")[2].partition(b"\r\n")[0]
        await talk.say(b"HTTP/1.1 200 OK\r\nX-Odd: %b\r\nContent-Length: 0\r\n\r\n" % value)

    async with fronted(script, allowed_origins=("https://*",)) as running:
        odd = b"\r\nX-Odd: \xff\xe4x\r\nTE: \xff\r\nOrigin: https://\xff\r\n\r\n"
        answer = await running.ask(CLOSE.replace(b"\r\n\r\n", odd))
        assert b"X-Odd: \xff\xe4x\r\n" in answer
        assert b"Access-Control-Allow-Origin: https://\xff\r\n" in answer


async def test_a_head_that_comes_too_slowly_is_cut() -> None:
    async with fronted(obliging, header_timeout_s=0.1) as running:
        late = await running.ask(b"GET /x HTTP/1.1\r\nHost:")
        assert late.startswith(b"HTTP/1.1 408")
        assert json.loads(late.partition(b"\r\n\r\n")[2]) == {
            "error": "the request's head came too slowly; send it again"
        }
        answer = await running.ask(GET, b"GET /x", b" HT")
        assert (answer.count(b"200 OK"), answer.count(b"HTTP/1.1 408")) == (1, 1)


async def test_a_connection_without_a_request_is_closed() -> None:
    async with fronted(obliging, keepalive_timeout_s=0.1) as running:
        assert await running.ask(b"") == b""
        assert (await running.ask(GET)).count(b"200 OK") == 1


@pytest.mark.parametrize("path", [b"/x", b"/upload"])
async def test_a_body_that_comes_too_slowly_is_cut(path: bytes) -> None:
    async with fronted(obliging, body_timeout_s=0.2, linger_s=0.1) as running:
        answer = await running.ask(b"POST %b HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhell" % path)
        assert answer.startswith(b"HTTP/1.1 408")
        assert running.pool.busy == 0


async def test_a_kept_body_that_trickles_is_cut_though_it_never_pauses() -> None:
    async with fronted(obliging, body_timeout_s=0.1, body_rate_min_bytes_s=1000, linger_s=0.1) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n")
        async with asyncio.TaskGroup() as tasks:
            answer = tasks.create_task(reader.readuntil(b"\r\n\r\n"))
            while not answer.done():
                writer.write(b"x")
                await asyncio.sleep(0.001)
        assert answer.result().startswith(b"HTTP/1.1 408")
        writer.close()


async def test_bodies_that_are_kept_have_a_bound_together() -> None:
    answering = asyncio.Event()

    async def script(talk: Talk) -> None:
        await talk.request()
        await answering.wait()
        await talk.say(OK)

    post = b"POST /x HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 700\r\n\r\n" + b"x" * 700
    async with fronted(script, bodies_max_bytes=1024) as running, asyncio.TaskGroup() as tasks:
        first = tasks.create_task(running.ask(post))
        await until(lambda: running.shared.kept_bytes == 700)
        second = await running.ask(post)
        assert second.startswith(b"HTTP/1.1 503")
        assert b"Retry-After" in second
        answering.set()
        assert (await first).endswith(b"ok")
        await until(lambda: running.shared.kept_bytes == 0)


async def test_one_connection_too_many_is_answered_with_503() -> None:
    async with fronted(obliging, connections_max=1) as running:
        _, writer = await asyncio.open_connection("127.0.0.1", running.port)
        await until(lambda: running.shared.connections == 1)
        answer = await running.ask(GET)
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"Retry-After" in answer
        writer.close()
        await until(lambda: running.shared.connections == 0)
        assert b"200 OK" in await running.ask(CLOSE)


@pytest.mark.parametrize("path", [b"/x", b"/upload"])
async def test_a_client_that_asks_first_is_told_to_go_on(path: bytes) -> None:
    async with fronted(obliging) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(b"POST %b HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n" % path)
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"hello")
        head = await reader.readuntil(b"\r\n\r\n")
        assert (await reader.readexactly(length_of(head))).endswith(b" 5")
        writer.close()


async def test_a_body_that_is_not_wanted_is_not_asked_for() -> None:
    async with fronted(obliging, linger_s=0.1) as running:
        ask = b"POST /x HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5000000\r\n\r\n"
        assert (await running.ask(ask)).startswith(b"HTTP/1.1 413")
        assert (await running.ask(ask.replace(b"100-continue", b"magic"))).startswith(b"HTTP/1.1 417")


@pytest.mark.parametrize("method", [b"CONNECT", b"TRACE"])
async def test_methods_for_other_kinds_of_proxies_are_refused(method: bytes) -> None:
    async with fronted(obliging) as running:
        answer = await running.ask(b"%b h:1 HTTP/1.1\r\nHost: h:1\r\nConnection: close\r\n\r\n" % method)
        assert answer.startswith((b"HTTP/1.1 405", b"HTTP/1.1 400", b"HTTP/1.0 400"))


async def test_an_upload_passes_with_its_length_or_in_chunks() -> None:
    bodies: list[bytes] = []

    async def script(talk: Talk) -> None:
        head = await talk.head()
        if b"chunked" in head:
            bodies.append(await talk.reader.readuntil(b"0\r\n\r\n"))
        else:
            bodies.append(await talk.reader.readexactly(length_of(head)))
        await talk.say(OK)

    async with fronted(script) as running:
        head = b"POST /upload HTTP/1.1\r\nHost: h\r\nConnection: close\r\n"
        assert (await running.ask(head + b"Content-Length: 5\r\n\r\n", b"hel", b"lo")).endswith(b"ok")
        chunks = b"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"
        assert (await running.ask(head + b"Transfer-Encoding: chunked\r\n\r\n", chunks)).endswith(b"ok")
    assert bodies[0] == b"hello"
    assert bodies[1].endswith(b"0\r\n\r\n")


async def test_a_child_that_answers_before_it_has_the_upload_is_heard() -> None:
    async def script(talk: Talk) -> None:
        await talk.head()
        await talk.say(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\nno")
        await talk.reader.read()

    async with fronted(script, linger_s=0.1) as running:
        head = b"POST /upload HTTP/1.1\r\nHost: h\r\nContent-Length: 100000000\r\n\r\n"
        answer = await running.ask(head, b"x" * 100_000)
        assert answer.startswith(b"HTTP/1.1 400")
        assert answer.endswith(b"no")
        assert b"Connection: close" in answer
        assert (running.pool.busy, running.pool.waiting) == (0, 0)


async def test_a_client_that_leaves_its_upload_leaves_the_child_without_its_end() -> None:
    ends: list[bytes] = []

    async def script(talk: Talk) -> None:
        await talk.head()
        ends.append(await talk.reader.read())

    async with fronted(script) as running:
        _, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(b"POST /upload HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n")
        await until(lambda: running.pool.busy == 1)
        writer.transport.abort()
        await until(lambda: ends)
        assert not ends[0].endswith(b"0\r\n\r\n")


async def test_a_page_that_may_not_call_is_refused_and_one_that_may_is_told_so() -> None:
    async with fronted(obliging, allowed_origins=("https://chat.example.com",)) as running:
        ask = b"GET /x HTTP/1.1\r\nHost: h\r\nConnection: close\r\nOrigin: https://%b\r\n\r\n"
        assert (await running.ask(ask % b"evil.example.com")).startswith(b"HTTP/1.1 403")
        allowed = await running.ask(ask % b"chat.example.com")
        assert b"Access-Control-Allow-Origin: https://chat.example.com" in allowed
        preflight = await running.ask((ask % b"chat.example.com").replace(b"GET", b"OPTIONS"))
        assert preflight.startswith(b"HTTP/1.1 204")
        assert b"Access-Control-Allow-Headers: Authorization," in preflight
        assert (await running.ask(ask % b"h")).startswith(b"HTTP/1.1 200"), "a page of our own"


async def test_a_child_is_told_whose_request_it_is_and_never_the_origin() -> None:
    heads: list[bytes] = []

    async def script(talk: Talk) -> None:
        heads.append((await talk.request())[0])
        await talk.say(OK)

    async with fronted(script) as running:
        said = b"X-Forwarded-For: 192.0.2.7\r\nOrigin: http://localhost\r\nContent-Length: 0\r\n\r\n"
        await running.ask(CLOSE.replace(b"\r\n\r\n", b"\r\n" + said))
    async with fronted(script, trusted_proxies=()) as running:
        await running.ask(CLOSE.replace(b"\r\n\r\n", b"\r\n" + said))
    assert b"X-Forwarded-For: 192.0.2.7, 127.0.0.1\r\n" in heads[0]
    assert b"X-Forwarded-For: 127.0.0.1\r\n" in heads[1]
    assert not [head for head in heads if b"origin" in head.lower()]
    assert all(b"\r\nContent-Length: 0\r\n" in head for head in heads)
