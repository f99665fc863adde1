"""The least that a relay on this event loop can do: bytes from one socket to the other, not one of them looked at.

It knows no HTTP: no second child, no framing, no header. What it costs is what uvloop and the kernel cost; what ollamad
costs above it is ollamad's own.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import uvloop

from bench.relay.load import many_files


class End(asyncio.Protocol):
    """One end of a pair."""

    def __init__(self, other: End | None = None) -> None:
        self.other = other
        self.transport: asyncio.Transport | None = None
        self.early = b""
        """What came before the other end stood."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It stands."""
        self.transport = cast("asyncio.Transport", transport)
        if self.other is not None and self.other.early:
            self.transport.write(self.other.early)

    def data_received(self, data: bytes) -> None:
        """Across."""
        if self.other is not None and self.other.transport is not None:
            self.other.transport.write(data)
        else:
            self.early += data

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Then both are gone."""
        self.transport = None
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()


async def serve(port: int, upstream: int) -> None:
    """Listen on a port of loopback, for one upstream."""
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as tasks:

        class Front(End):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                super().connection_made(transport)
                back = self.other = End(self)
                tasks.create_task(loop.create_connection(lambda: back, "127.0.0.1", upstream))

        server = await loop.create_server(Front, "127.0.0.1", port, backlog=8192)
        await server.serve_forever()


if __name__ == "__main__":
    many_files()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(int(sys.argv[1]), int(sys.argv[2])))
