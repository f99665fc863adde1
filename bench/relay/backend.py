"""A child that costs as little as it can: streams of 110-byte records, one chunk each, and one small answer.

Run as `ollama serve` is: it listens where OLLAMA_HOST says. What is streamed stands in the query of any POST, so that
it is the same through every proxy: `?chunks=200&pause_ms=5&first_ms=0&spread=1`.

Spread streams are out of step with each other, by the same steps whoever asks. Else they would stay as far apart as
they began: a proxy that begins many at once would get its chunks in bunches, and pay one waking for all of a bunch.
"""

from __future__ import annotations

import asyncio
import os
import signal
from itertools import count
from typing import Final, cast
from urllib.parse import parse_qs

import uvloop

from bench.relay.load import many_files

RECORD: Final = b'{"model":"m","created_at":"2026-01-01T00:00:00.000000000Z","response":"%b","done":false}\n' % (
    b"token " * 4
)
CHUNK: Final = b"%x\r\n%b\r\n" % (len(RECORD), RECORD)
LAST: Final = (
    b'{"model":"m","done":true,"done_reason":"stop","prompt_eval_count":1,"eval_count":%d,"eval_duration":1}\n'
)
STREAM: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
SMALL: Final = b'{"version":"0.9.9"}'
LOADED: Final = b'{"models":[{"name":"m:latest","model":"m:latest","size":1,"size_vram":0}]}'


STREAMS: Final = count()
GOLDEN: Final = 0.6180339887
"""Steps of this spread any number of streams evenly."""


class Connection(asyncio.Protocol):
    """One connection: requests one after the other, each read only as far as it must be."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._read = b""
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Gone: a stream for it ends."""
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        """A request, or a part of one."""
        self._read += data
        while (end := self._read.find(b"\r\n\r\n")) >= 0:
            head = self._read[:end]
            length = _length(head)
            if len(self._read) < end + 4 + length:
                return
            self._read = self._read[end + 4 + length :]
            self._answer(head)

    def _answer(self, head: bytes) -> None:
        method, target, _ = head.split(b"\r\n", 1)[0].split(b" ")
        if method == b"POST":
            query = parse_qs(target.partition(b"?")[2].decode())
            self._stream(
                int(query.get("chunks", ["1"])[0]),
                float(query.get("pause_ms", ["0"])[0]) / 1000,
                float(query.get("first_ms", ["0"])[0]) / 1000,
                spread=query.get("spread") == ["1"],
            )
        else:
            body = LOADED if target == b"/api/ps" else SMALL
            self._write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: %d\r\n\r\n%b"
                % (len(body), body)
            )

    def _stream(self, chunks: int, pause_s: float, first_s: float, *, spread: bool) -> None:
        loop = asyncio.get_running_loop()
        due_s = loop.time() + first_s
        sent = 0
        if spread:  # on a beat that all streams have in common, each in its own place between two
            place_s = next(STREAMS) * GOLDEN % 1.0 * pause_s
            due_s += pause_s - (due_s - place_s) % pause_s

        def step() -> None:
            nonlocal sent, due_s
            self._write(STREAM + CHUNK if sent == 0 else CHUNK)
            sent += 1
            if sent < chunks:
                due_s += pause_s
                self._timer = loop.call_at(due_s, step)
                return
            last = LAST % chunks
            self._write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(last), last))

        self._timer = loop.call_at(due_s, step)

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


async def _serve() -> None:
    host, _, port = os.environ["OLLAMA_HOST"].rpartition(":")
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = await loop.create_server(Connection, host, int(port), backlog=8192)
    async with server:
        await stop.wait()


if __name__ == "__main__":
    many_files()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve())
