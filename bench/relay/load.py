"""Clients that cost little: raw connections that send requests and count what comes back."""

from __future__ import annotations

import asyncio
import resource
import time
from dataclasses import dataclass, field
from typing import Any, cast

GET = b"GET /api/version HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
_BODY = b'{"model": "m", "prompt": "Why is the sky blue?", "options": {"num_predict": 100}}'


def post(chunks: int, pause_ms: float, first_ms: float = 0.0, *, spread: bool = False) -> bytes:
    """A request for a stream; see `backend.py`."""
    return (
        b"POST /api/generate?chunks=%d&pause_ms=%.2f&first_ms=%.2f&spread=%d HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
        % (chunks, pause_ms, first_ms, spread, len(_BODY), _BODY)
    )


@dataclass(slots=True)
class Seen:
    """What clients saw."""

    records: int = 0
    done: int = 0
    """Responses that came to their end."""
    broken: int = 0
    refused: int = 0
    first_s: list[float] = field(default_factory=list)
    """From the request to the first byte of its response, each."""
    began_s: list[float] = field(default_factory=list)
    """When these were sent."""
    told: int = 0
    """Responses that ended with an error of their own format."""
    whole_s: list[float] = field(default_factory=list)
    """From the request to the last byte, each."""


class Client(asyncio.Protocol):
    """One connection, with one request after the other as `next_one` gives them."""

    def __init__(self, seen: Seen, requests: int, request: bytes, ended: asyncio.Event) -> None:
        self._seen = seen
        self._left = requests
        self._request = request
        self._ended = ended
        self._transport: asyncio.Transport | None = None
        self._began_s = 0.0
        self._fresh = True
        self._end = b""
        self._body_left: int | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected: the first request goes out."""
        self._transport = cast("asyncio.Transport", transport)
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Gone; too early where requests are left."""
        if self._left:
            self._seen.broken += 1
        self._ended.set()

    def data_received(self, data: bytes) -> None:
        """A piece of a response."""
        now_s = time.perf_counter()
        if self._fresh:
            self._fresh = False
            self._seen.first_s.append(now_s - self._began_s)
            self._seen.began_s.append(self._began_s)
            self._head(data)
        elif self._body_left is not None:
            self._body_left -= len(data)
        else:
            self._seen.records += data.count(b"}\n")
        if b'"error"' in data:
            self._seen.told += 1
        self._end = (self._end + data)[-5:]
        if self._body_left == 0 or (self._body_left is None and self._end == b"0\r\n\r\n"):
            self._over(now_s)

    def _head(self, data: bytes) -> None:
        head, _, body = data.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            self._seen.refused += 1
        lower = head.lower()
        at = lower.find(b"content-length:")
        self._body_left = None
        if at >= 0:
            self._body_left = int(lower[at + 15 :].split(b"\r\n")[0]) - len(body)
        self._seen.records += body.count(b"}\n")

    def _over(self, now_s: float) -> None:
        self._seen.done += 1
        self._seen.whole_s.append(now_s - self._began_s)
        self._left -= 1
        if self._left:
            self._send()
        elif self._transport is not None:
            self._transport.close()

    def _send(self) -> None:
        self._fresh, self._end = True, b""
        self._began_s = time.perf_counter()
        if self._transport is not None:
            self._transport.write(self._request)


def many_files() -> None:
    """Let this process have as many connections as it may."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def drive(port: int, connections: int, requests: int, request: bytes, *, at_once: int = 512) -> Seen:
    """So many connections with so many requests each, one after the other; all at once."""
    seen = Seen()
    loop = asyncio.get_running_loop()
    ends: list[asyncio.Event] = []
    gate = asyncio.Semaphore(at_once)

    async def one() -> None:
        ended = asyncio.Event()
        ends.append(ended)
        async with gate:
            await loop.create_connection(lambda: Client(seen, requests, request, ended), "127.0.0.1", port)
        await ended.wait()

    async with asyncio.TaskGroup() as tasks:
        for _ in range(connections):
            tasks.create_task(one())
    return seen


def percentile(values: list[float], share: float) -> float:
    """The value that so large a share of them stays under."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def summary(values: list[float]) -> dict[str, Any]:
    """Median and 99th percentile in milliseconds."""
    return {"p50_ms": round(percentile(values, 0.5) * 1000, 3), "p99_ms": round(percentile(values, 0.99) * 1000, 3)}
