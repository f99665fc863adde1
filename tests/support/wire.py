"""The proxy's listener and relay in this process, before a child whose every byte a test decides."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web

from ollamad.config.schema import Proxy
from ollamad.errors import CapacityError, ClientError, NoAnswer
from ollamad.proxy.body import kept, streamed
from ollamad.proxy.connection import Listener
from ollamad.proxy.exchange import Outgoing, Refused, Relay, Relayed
from ollamad.proxy.front import Front
from ollamad.proxy.shapes import error_response
from ollamad.proxy.shared import Shared
from ollamad.upstream.pool import Pool

OK: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
STREAM: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
PATIENCE_S: Final = 10.0


@dataclass(slots=True)
class Talk:
    """A child's side of one connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    number: int
    """Which connection it is, from 0."""

    async def head(self) -> bytes:
        """The next request's head. Raises IncompleteReadError where there is none."""
        return await self.reader.readuntil(b"\r\n\r\n")

    async def request(self) -> tuple[bytes, bytes]:
        """The next request with a body of a known length."""
        head = await self.head()
        return head, await self.reader.readexactly(length_of(head))

    async def say(self, *pieces: bytes) -> None:
        """Send these, each as soon as the one before is out."""
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            await asyncio.sleep(0)

    def die(self) -> None:
        """Close it without a word, as a killed process does."""
        self.writer.transport.abort()


Script = Callable[[Talk], Awaitable[None]]


@dataclass(slots=True)
class Fronted:
    """A running listener before a running child."""

    port: int
    pool: Pool
    shared: Shared
    relayed: list[Relayed] = field(default_factory=list)
    heard: int = 0
    held: list[bool] = field(default_factory=list)
    """What was told of clients that hold a response up."""
    connections: int = 0
    """That the child has accepted."""
    left: int = 0
    """Requests whose client went away."""
    sent: list[Callable[[str], None]] = field(default_factory=list)
    """For each time that a request was sent to the child: how the wait for its response is given up."""

    async def ask(self, *pieces: bytes, half_close: bool = False) -> bytes:
        """Send bytes on a connection of their own; gives all that comes until it is closed."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            for piece in pieces:
                writer.write(piece)
                await asyncio.sleep(0.001)
            if half_close:
                writer.write_eof()
            async with asyncio.timeout(PATIENCE_S):
                return await reader.read()
        finally:
            writer.close()


@asynccontextmanager
async def fronted(script: Script, *, tls: ssl.SSLContext | None = None, **settings: Any) -> AsyncIterator[Fronted]:
    """Run them until the block ends. The child runs `script` for each connection; paths with `/upload` are streamed."""
    proxy = Proxy(**settings)
    running = Fronted(0, Pool(lambda: proxy), Shared(lambda: proxy, connections_possible=1000))
    relay = Relay(running.pool, lambda: proxy)
    async with _child(script, running) as base_url:

        async def handle(incoming: web.Request) -> web.StreamResponse:
            try:
                return await _handled(running, relay, base_url, incoming)
            except asyncio.CancelledError:
                running.left += 1
                raise

        runner = web.ServerRunner(Listener(Front(handle, running.shared).answer, running.shared), shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
            running.port = runner.addresses[0][1]
            yield running
        finally:
            running.pool.close()
            await runner.cleanup()


@asynccontextmanager
async def _child(script: Script, running: Fronted) -> AsyncIterator[str]:
    talking: set[asyncio.Task[None]] = set()

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        talking.add(task)
        running.connections += 1
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await script(Talk(reader, writer, running.connections - 1))
            writer.close()
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            talking.discard(task)

    child = await asyncio.start_server(accepted, "127.0.0.1", 0, limit=1 << 24)
    try:
        yield f"http://127.0.0.1:{child.sockets[0].getsockname()[1]}"
    finally:
        child.close()
        for _ in range(3):  # connections that were accepted just now begin their talk
            await asyncio.sleep(0)
        for task in talking:
            task.cancel()
        while talking:
            await asyncio.sleep(0)
        await asyncio.sleep(0)  # for transports to close


def length_of(head: bytes) -> int:
    """What a head says of the length of its body; 0 where it says nothing."""
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0


async def _handled(running: Fronted, relay: Relay, base_url: str, incoming: web.Request) -> web.StreamResponse:
    def heard() -> None:
        running.heard += 1

    def hold(*, held: bool) -> None:
        running.held.append(held)

    try:
        body = streamed(incoming) if "/upload" in incoming.path else await kept(incoming, 1 << 20) or None
        added = {"X-Ollamad-Child": "gpu0"}
        outgoing = Outgoing(
            incoming, body, elsewhere_on_5xx=True, added=added, heard=heard, hold=hold, waits=running.sent.append
        )
        async with relay.open(outgoing, base_url) as answer:
            if isinstance(answer, Refused):
                return answer.response()
            relayed = await answer.relay()
            running.relayed.append(relayed)
            return relayed.response
    except ClientError as error:
        return error_response(incoming.path, error.status, str(error))
    except CapacityError as error:
        return error_response(incoming.path, 503, str(error), retry_after_s=error.retry_after_s)
    except NoAnswer as error:
        return error_response(incoming.path, 502, str(error))
