"""TLS on the listeners: what holds without it holds with it, on both event loops; and certificates are renewed."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
import uvloop
from aiohttp import web

from ollamad.access.certificates import Certificates
from ollamad.access.site import SecureSite
from ollamad.config.address import Address
from ollamad.listening import open_door
from tests.support.control_face import ollamactl
from tests.support.daemon import Daemons, until
from tests.support.simulated import MODEL
from tests.support.tls import Pair, make_pair, subject_at, trusting
from tests.support.wire import OK, STREAM, Fronted, Talk, fronted

GET: Final = b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n"
LOOPS: Final = [asyncio.new_event_loop, uvloop.new_event_loop]
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Secure:
    """A listener with TLS, to be run on a loop of the test's choice: the daemon's is uvloop's."""

    def __init__(self, pair: Pair, loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        self._context = Certificates("proxy", pair.certificate, pair.key).context
        self._client = trusting(pair)
        self._loop = loop

    def run(
        self,
        script: Callable[[Talk], Awaitable[None]],
        test: Callable[[Fronted, Callable[[], Awaitable[Streams]]], Awaitable[None]],
        **settings: Any,
    ) -> None:
        async def running() -> None:
            async with fronted(script, tls=self._context, **settings) as served, asyncio.timeout(30):
                await test(served, lambda: self._connect(served.port))

        with asyncio.Runner(loop_factory=self._loop) as runner:
            runner.run(running())

    async def _connect(self, port: int) -> Streams:
        return await asyncio.open_connection(
            "127.0.0.1", port, ssl=self._client, server_hostname="localhost", limit=4096
        )


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return make_pair(tmp_path, "one")


@pytest.fixture(params=LOOPS, ids=["asyncio", "uvloop"])
def secure(pair: Pair, request: pytest.FixtureRequest) -> Secure:
    return Secure(pair, request.param)


def test_a_stream_comes_piece_by_piece_and_a_child_is_told_that_it_was_https(secure: Secure) -> None:
    heads: list[bytes] = []
    go_on = asyncio.Event()

    async def script(talk: Talk) -> None:
        heads.append((await talk.request())[0])
        await talk.say(STREAM + b"4\r\n{1}\n\r\n")
        await go_on.wait()
        await talk.say(b"4\r\n{2}\n\r\n0\r\n\r\n")

    async def test(_running: Fronted, connect: Callable[[], Awaitable[Streams]]) -> None:
        reader, writer = await connect()
        writer.write(GET)
        assert (await reader.readuntil(b"{1}\n\r\n")).startswith(b"HTTP/1.1 200 OK")
        go_on.set()
        await reader.readuntil(b"0\r\n\r\n")
        writer.close()

    secure.run(script, test)
    assert b"X-Forwarded-Proto: https\r\n" in heads[0]


def test_one_connection_serves_many_requests(secure: Secure) -> None:
    async def script(talk: Talk) -> None:
        while True:
            await talk.request()
            await talk.say(OK)

    async def test(_running: Fronted, connect: Callable[[], Awaitable[Streams]]) -> None:
        reader, writer = await connect()
        writer.write(GET * 5)
        for _ in range(5):
            await reader.readuntil(b"ok")
        writer.close()

    secure.run(script, test)


def test_a_client_that_reads_slowly_stops_the_reading_from_its_child(secure: Secure) -> None:
    sent = 0

    async def script(talk: Talk) -> None:
        nonlocal sent
        await talk.request()
        talk.writer.transport.set_write_buffer_limits(high=1)
        await talk.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (64 << 20))
        for _ in range(64):
            await talk.say(b"x" * (1 << 20))
            sent += 1 << 20

    async def test(running: Fronted, connect: Callable[[], Awaitable[Streams]]) -> None:
        reader, writer = await connect()
        writer.write(GET)
        await reader.readuntil(b"\r\n\r\n")
        stopped = -1
        while stopped != sent:
            stopped = sent
            await asyncio.sleep(0.2)
        assert sent < 32 << 20
        total = 0
        while total < 64 << 20:
            total += len(await reader.read(1 << 20))
        assert (running.held[0], False in running.held) == (True, True)
        writer.close()

    secure.run(script, test)


def test_a_client_that_takes_nothing_is_cut(secure: Secure) -> None:
    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (256 << 20))
        for _ in range(256):
            await talk.say(b"x" * (1 << 20))

    async def test(running: Fronted, connect: Callable[[], Awaitable[Streams]]) -> None:
        _, writer = await connect()
        writer.write(GET)
        await until(lambda: running.left == 1)
        assert running.pool.busy == 0
        writer.transport.abort()

    secure.run(script, test, client_stall_timeout_s=0.2)


def test_a_client_that_leaves_ends_its_request_at_the_child(secure: Secure) -> None:
    gone = asyncio.Event()

    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.say(STREAM + b"2\r\n{}\r\n")
        try:
            await talk.reader.read()
        finally:
            gone.set()

    async def test(running: Fronted, connect: Callable[[], Awaitable[Streams]]) -> None:
        reader, writer = await connect()
        writer.write(GET.replace(b"GET", b"POST"))
        await reader.readuntil(b"{}\r\n")
        writer.close()
        await asyncio.wait_for(gone.wait(), 5)
        await until(lambda: running.left == 1)

    secure.run(script, test)


def test_a_head_that_comes_too_slowly_is_cut(secure: Secure) -> None:
    async def script(talk: Talk) -> None:
        await talk.request()

    async def test(_running: Fronted, connect: Callable[[], Awaitable[Streams]]) -> None:
        reader, writer = await connect()
        writer.write(b"GET /x HTTP/1.1\r\nHos")
        assert (await reader.read()).startswith(b"HTTP/1.1 408")
        writer.close()

    secure.run(script, test, header_timeout_s=0.1)


def test_who_speaks_no_tls_is_cut_and_others_are_served(secure: Secure) -> None:
    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.say(OK)

    async def test(running: Fronted, connect: Callable[[], Awaitable[Streams]]) -> None:
        assert b"200 OK" not in await running.ask(GET)
        reader, writer = await connect()
        writer.write(GET)
        await reader.readuntil(b"ok")
        writer.close()

    secure.run(script, test)


async def test_a_certificate_is_renewed_by_its_file_or_by_a_reload_and_a_bad_one_changes_nothing(
    daemons: Daemons, sim_ollama: Path, sim_store: Path, tmp_path: Path
) -> None:
    pairs = {name: make_pair(tmp_path, name) for name in ("one", "two", "three")}
    used = Pair(tmp_path / "used.pem", tmp_path / "used.key")
    trusted = trusting(*pairs.values())

    def use(name: str) -> None:
        for source, target in zip(
            (pairs[name].key, pairs[name].certificate), (used.key, used.certificate), strict=True
        ):
            shutil.copy2(source, target.with_suffix(".new"))
            target.with_suffix(".new").replace(target)

    use("one")
    tls = {"tls_certificate": str(used.certificate), "tls_key": str(used.key)}
    tables = {"proxy": {"listen": "127.0.0.1:0", **tls}, "status": {"listen": "127.0.0.1:0", **tls}}
    async with (
        daemons.run(sim_ollama, {**tables, "access": {"look_interval_s": 0.1}}, store=sim_store) as daemon,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusted)) as client,
    ):
        port, status_port = (int(url.rpartition(":")[2]) for url in (daemon.base_url, daemon.status_url))
        assert await subject_at(port, trusted) == "one"
        async with client.get(f"https://localhost:{status_port}/readyz") as ready:
            assert ready.status in {200, 503}
        body = json.dumps({"model": MODEL, "prompt": "hi", "options": {"num_predict": 20}})
        async with client.post(f"https://localhost:{port}/api/generate", data=body) as answer:
            assert len((await answer.read()).splitlines()) == 21
            use("two")
            await until(lambda: len(daemon.said("certificate renewed")) == 2, daemon.explain)
        assert [await subject_at(one, trusted) for one in (port, status_port)] == ["two", "two"]
        used.certificate.write_text("no certificate")
        await until(lambda: daemon.said("changed file refused"), daemon.explain)
        code, _, err = await ollamactl("--socket", str(daemon.control), "reload")
        assert (code, "proxy.tls_certificate" in err) == (1, True)
        assert await subject_at(port, trusted) == "two"
        use("three")
        assert (await ollamactl("--socket", str(daemon.control), "reload"))[0] == 0
        assert await subject_at(port, trusted) == "three"
        assert (await ollamactl("--socket", str(daemon.control), "models"))[0] == 0


@pytest.mark.parametrize("loop", LOOPS, ids=["asyncio", "uvloop"])
def test_a_client_that_begins_no_handshake_is_cut(pair: Pair, loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response()

    async def silent() -> bytes:
        runner = web.ServerRunner(web.Server(handler))
        await runner.setup()
        context = Certificates("proxy", pair.certificate, pair.key).context
        try:
            await SecureSite(runner, Address("127.0.0.1", 0), context, backlog=9, handshake_s=0.1).start()
            reader, writer = await asyncio.open_connection(*runner.addresses[0])
            async with asyncio.timeout(10):
                found = await reader.read()
            writer.close()
            return found
        finally:
            await runner.cleanup()

    with asyncio.Runner(loop_factory=loop) as runner:
        assert runner.run(silent()) == b""


@pytest.mark.parametrize("loop", LOOPS, ids=["asyncio", "uvloop"])
def test_a_socket_that_systemd_hands_over_speaks_tls_too(
    pair: Pair, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(text="in secret")

    async def asked() -> str:
        runner = web.ServerRunner(web.Server(handler))
        context = Certificates("proxy", pair.certificate, pair.key).context
        inherited = socket.create_server(("127.0.0.1", 0))
        try:
            door = await open_door(runner, "proxy.listen", Address("127.0.0.1", 0), [inherited], context)
            connector = aiohttp.TCPConnector(ssl=trusting(pair))
            async with (
                aiohttp.ClientSession(connector=connector) as session,
                session.get(f"https://localhost:{door.address.port}/") as answer,
            ):
                return await answer.text()
        finally:
            await runner.cleanup()

    with asyncio.Runner(loop_factory=loop) as runner:
        assert runner.run(asked()) == "in secret"


async def test_older_protocols_are_refused(daemons: Daemons, sim_ollama: Path, sim_store: Path, pair: Pair) -> None:
    tables = {"proxy": {"listen": "127.0.0.1:0", "tls_certificate": str(pair.certificate), "tls_key": str(pair.key)}}
    async with daemons.run(sim_ollama, tables, store=sim_store) as daemon:
        port = int(daemon.base_url.rpartition(":")[2])
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = trusting(pair)
            context.minimum_version = context.maximum_version = version
            assert await subject_at(port, context) == "one"
        old = await asyncio.create_subprocess_exec(
            *("openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-tls1_1", "-cipher", "ALL:@SECLEVEL=0"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        assert await old.wait() != 0
