"""Connections to a child: used again, bounded, and never the reason why a request is lost."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.daemon import until
from tests.support.wire import OK, STREAM, Talk, fronted

GET = b"GET /x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
POST = b"POST /x HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello"


async def obliging(talk: Talk) -> None:
    while True:
        await talk.request()
        await talk.say(OK)


async def test_a_connection_is_used_again() -> None:
    async with fronted(obliging) as running:
        for _ in range(5):
            assert (await running.ask(GET)).endswith(b"ok")
        assert (running.connections, running.pool.waiting, running.pool.busy) == (1, 1, 0)


@pytest.mark.parametrize("request_", [GET, POST])
async def test_a_used_connection_that_dies_before_a_byte_costs_no_request(request_: bytes) -> None:
    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.say(OK)
        if talk.number % 2 == 0:
            await talk.head()
            talk.die()

    async with fronted(script) as running:
        for _ in range(4):
            assert (await running.ask(request_)).endswith(b"ok")
        assert running.connections == 4


async def test_a_fresh_connection_that_dies_is_not_tried_again() -> None:
    async def script(talk: Talk) -> None:
        await talk.head()
        talk.die()

    async with fronted(script) as running:
        assert (await running.ask(POST)).startswith(b"HTTP/1.1 502")
        assert running.connections == 1


async def test_a_used_connection_that_dies_after_a_byte_is_not_tried_again() -> None:
    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.say(OK)
        await talk.request()
        await talk.say(b"HTTP/1.1 200")
        talk.die()

    async with fronted(script) as running:
        assert (await running.ask(POST)).endswith(b"ok")
        assert (await running.ask(POST)).startswith(b"HTTP/1.1 502")
        assert running.connections == 1


async def test_a_wait_that_is_given_up_closes_the_connection_and_asks_this_child_no_more() -> None:
    """On a used connection, which a child that died on it would have had replaced."""
    closed = asyncio.Event()

    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.say(OK)
        await talk.request()
        await talk.reader.read()
        closed.set()

    async with fronted(script) as running:
        assert (await running.ask(POST)).endswith(b"ok")
        async with asyncio.TaskGroup() as tasks:
            asked = tasks.create_task(running.ask(POST))
            await until(lambda: len(running.sent) == 2)
            running.sent[-1]("its child hangs")
        answer = asked.result()
        assert answer.startswith(b"HTTP/1.1 502")
        assert b"its child hangs" in answer
        await closed.wait()
        assert (running.connections, len(running.sent)) == (1, 2)


async def test_an_upload_never_goes_out_on_a_connection_that_may_be_stale() -> None:
    async with fronted(obliging) as running:
        upload = POST.replace(b"/x", b"/upload")
        for _ in range(3):
            assert (await running.ask(upload)).endswith(b"ok")
        assert running.connections == 3


async def test_connections_that_wait_are_few_and_not_for_long() -> None:
    together = asyncio.Barrier(5)

    async def script(talk: Talk) -> None:
        await talk.request()
        await together.wait()
        await talk.say(OK)
        await talk.reader.read()

    async with fronted(script, child_idle_connections_max=2, child_idle_timeout_s=0.2) as running:
        answers = await asyncio.gather(*(running.ask(GET) for _ in range(5)))
        assert all(answer.endswith(b"ok") for answer in answers)
        assert (running.pool.waiting, running.pool.busy) == (2, 0)
        await until(lambda: running.pool.waiting == 0)


async def test_a_connection_that_the_child_closes_does_not_wait_any_more() -> None:
    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.say(OK)

    async with fronted(script) as running:
        await running.ask(GET)
        await until(lambda: running.pool.waiting == 0)


async def test_connections_to_a_child_that_fails_are_not_tried() -> None:
    together = asyncio.Barrier(2)

    async def script(talk: Talk) -> None:
        await talk.request()
        await together.wait()
        await talk.say(OK)
        await talk.request()
        await talk.say(b"nonsense\r\n\r\n")

    async with fronted(script) as running:
        await asyncio.gather(running.ask(GET), running.ask(GET))
        assert running.pool.waiting == 2
        assert (await running.ask(GET)).startswith(b"HTTP/1.1 502")
        assert running.pool.waiting == 0


@pytest.mark.parametrize("ending", [b"Connection: close\r\n", b""])
async def test_a_connection_is_used_again_only_if_the_child_means_to_keep_it(ending: bytes) -> None:
    async def script(talk: Talk) -> None:
        while True:
            await talk.request()
            await talk.say(OK.replace(b"Content-Length", ending + b"Content-Length"))

    async with fronted(script) as running:
        await running.ask(GET)
        await running.ask(GET)
        assert running.connections == (2 if ending else 1)


async def test_a_thousand_requests_with_clients_that_leave_anywhere_leave_nothing_behind() -> None:
    async def script(talk: Talk) -> None:
        while True:
            await talk.request()
            await talk.say(STREAM, *[b"3\r\n{}\n\r\n"] * 3, b"0\r\n\r\n")

    async def one(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(GET)
        if number % 3:
            await reader.read(number % 400)
        if number % 2:
            writer.transport.abort()
        writer.close()

    async with fronted(script) as running:
        for batch in range(20):
            await asyncio.gather(*(one(batch * 50 + number) for number in range(50)))
        await until(lambda: running.shared.connections == 0 and running.pool.busy == 0)
        assert running.pool.waiting <= 64
        assert (await running.ask(GET)).endswith(b"0\r\n\r\n")


async def test_hundreds_of_streams_at_once_all_come_to_their_last_record() -> None:
    streams, records = 400, 20
    everybody = asyncio.Barrier(streams)

    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.say(STREAM)
        await everybody.wait()
        for number in range(records):
            await talk.say(b"5\r\n{%02d}\n\r\n" % number)
        await talk.say(b"0\r\n\r\n")

    async with fronted(script) as running:
        answers = await asyncio.gather(*(running.ask(GET) for _ in range(streams)))
    whole = b"".join(b"{%02d}\n" % number for number in range(records))
    assert {b"".join(line + b"\n" for line in answer.split(b"\n") if line[:1] == b"{") for answer in answers} == {whole}


async def test_a_child_that_does_not_accept_is_no_answer() -> None:
    async with fronted(obliging) as running:
        pass
    async with fronted(obliging, connect_timeout_s=0.5) as other:
        assert (await other.ask(GET)).endswith(b"ok")
    assert running.pool.busy == 0
