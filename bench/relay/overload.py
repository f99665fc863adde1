"""Ten times what the children can take: what the accepted, the refused and the operators see, and what memory it takes.

`python -m bench.relay.overload [--quick] [--json PATH]`. Requests come by the clock, each on a connection of its own,
whether the ones before are answered or not: first half of what the children can take, then ten times it. With a queue
that is full an accepted request waits for its slot; what the relay adds is told apart from that by X-Ollamad-Queue-Ms.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import uvloop

from bench.relay import parties
from bench.relay.load import many_files, percentile, post
from bench.relay.parties import Party

CHILDREN: Final = 4
SLOTS: Final = 4
CHUNKS: Final = 20
PAUSE_MS: Final = 10.0
CAPACITY_PER_S: Final = CHILDREN * SLOTS / (CHUNKS * PAUSE_MS / 1000)
WAITING_MAX: Final = 64
LOOK_S: Final = 0.1
TABLES: Final[dict[str, dict[str, Any]]] = {
    "ollama": {"num_parallel": SLOTS},
    "proxy": {"waiting_max": WAITING_MAX},
    "routing": {"wait_max_s": 30.0},
}


@dataclass(slots=True)
class Seen:
    """What clients saw; seconds."""

    accepted_first_s: list[float] = field(default_factory=list)
    """To the first byte, without the wait for a slot."""
    accepted_whole_s: list[float] = field(default_factory=list)
    """To the last one, without it."""
    queued_s: list[float] = field(default_factory=list)
    refused_s: list[float] = field(default_factory=list)
    unfit: list[str] = field(default_factory=list)
    """Neither a whole answer, nor a 503 that says when to come back."""


class Client(asyncio.Protocol):
    """One request on one connection."""

    def __init__(self, seen: Seen, ended: Callable[[], None]) -> None:
        self._seen = seen
        self._ended = ended
        self._transport: asyncio.Transport | None = None
        self._began_s = self._first_s = 0.0
        self._said = b""
        self._over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask."""
        self._transport = cast("asyncio.Transport", transport)
        self._began_s = time.perf_counter()
        self._transport.write(post(CHUNKS, PAUSE_MS))

    def data_received(self, data: bytes) -> None:
        """A piece of the answer."""
        self._first_s = self._first_s or time.perf_counter()
        self._said += data
        head, gap, body = self._said.partition(b"\r\n\r\n")
        if not gap:
            return
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        if head.startswith(b"HTTP/1.1 200") and body.endswith(b"\r\n0\r\n\r\n"):
            queued_s = int(fields[b"x-ollamad-queue-ms"]) / 1000
            self._seen.queued_s.append(queued_s)
            self._seen.accepted_first_s.append(self._first_s - self._began_s - queued_s)
            self._seen.accepted_whole_s.append(time.perf_counter() - self._began_s - queued_s)
            if body.count(b"}\n") != CHUNKS + 1:
                self._seen.unfit.append("records are missing")
        elif head.startswith(b"HTTP/1.1 503") and len(body) >= int(fields[b"content-length"]):
            self._seen.refused_s.append(time.perf_counter() - self._began_s)
            if b"retry-after" not in fields:
                self._seen.unfit.append("503 without Retry-After")
        elif head.startswith((b"HTTP/1.1 200", b"HTTP/1.1 503")):
            return
        else:
            self._seen.unfit.append(head[:60].decode(errors="replace"))
        self._over = True
        if self._transport is not None:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Over; too early where there is no whole answer."""
        if not self._over:
            self._seen.unfit.append(f"closed: {exc}")
        self._ended()


async def _arrive(port: int, per_s: float, for_s: float) -> Seen:
    """Requests at this rate, for so long; returns when all are answered."""
    seen, loop = Seen(), asyncio.get_running_loop()
    begun_s = loop.time()
    open_now = 0
    all_over = asyncio.Event()

    def ended() -> None:
        nonlocal open_now
        open_now -= 1
        if not open_now:
            all_over.set()

    async with asyncio.TaskGroup() as tasks:
        for number in range(int(per_s * for_s)):
            await asyncio.sleep(max(0.0, begun_s + number / per_s - loop.time()))
            open_now += 1
            tasks.create_task(loop.create_connection(lambda: Client(seen, ended), "127.0.0.1", port))
    while open_now:
        all_over.clear()
        await all_over.wait()
    return seen


@dataclass(slots=True)
class Watched:
    """What an operator saw meanwhile."""

    healthz_s: list[float] = field(default_factory=list)
    status_s: list[float] = field(default_factory=list)
    control_s: list[float] = field(default_factory=list)
    rss_bytes: list[int] = field(default_factory=list)


@asynccontextmanager
async def _watched(party: Party, socket: Path) -> Any:
    """Look again and again until the block ends."""
    watched = Watched()

    async def look() -> None:
        while True:
            await _timed(watched.healthz_s, lambda: parties.get(party.status_port or 0, "/healthz"))
            await _timed(watched.status_s, lambda: parties.get(party.status_port or 0, "/status"))
            await _timed(watched.control_s, lambda: _control(socket))
            watched.rss_bytes.append(party.rss_bytes())
            await asyncio.sleep(LOOK_S)

    async with asyncio.TaskGroup() as tasks:
        looking = tasks.create_task(look())
        yield watched
        looking.cancel()


async def _timed(into: list[float], ask: Callable[[], Awaitable[bytes]]) -> None:
    began_s = time.perf_counter()
    if not await ask():
        raise RuntimeError("an operator got no answer")
    into.append(time.perf_counter() - began_s)


async def _control(socket: Path) -> bytes:
    reader, writer = await asyncio.open_unix_connection(socket)
    try:
        writer.write(b"GET /v1/children HTTP/1.0\r\nHost: ollamad\r\n\r\n")
        return (await reader.read()).partition(b"\r\n\r\n")[2]
    finally:
        writer.close()


async def measure(for_s: float, folder: Path) -> dict[str, Any]:
    """Half the capacity, ten times the capacity, and half of it again."""
    socket = folder / "control.sock"
    async with parties.ollamad(folder, children=CHILDREN, tables=TABLES) as party:
        await _arrive(party.port, CAPACITY_PER_S / 2, 2.0)
        found = {}
        for name, times in (("half", 0.5), ("tenfold", 10.0), ("half again", 0.5)):
            before_bytes = party.rss_bytes()
            async with _watched(party, socket) as watched:
                seen = await _arrive(party.port, times * CAPACITY_PER_S, for_s)
            found[name] = _told(seen, watched) | {"grown_bytes": max(watched.rss_bytes) - before_bytes}
        return found


def _told(seen: Seen, watched: Watched) -> dict[str, Any]:
    told: dict[str, Any] = {
        "accepted": len(seen.accepted_whole_s),
        "refused": len(seen.refused_s),
        "unfit": len(seen.unfit),
        "unfit_first": seen.unfit[:3],
    }
    for name, values in (
        ("queued", seen.queued_s),
        ("first_byte", seen.accepted_first_s),
        ("whole", seen.accepted_whole_s),
        ("refusal", seen.refused_s),
        ("healthz", watched.healthz_s),
        ("status", watched.status_s),
        ("control", watched.control_s),
    ):
        for share in (50, 99):
            told[f"{name}_p{share}_ms"] = round(percentile(values, share / 100) * 1000, 1) if values else None
    return told


def main() -> None:
    """Measure, print, write JSON; exit 1 where a client got neither an answer nor a refusal that helps it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a third of the time")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    many_files()
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(measure(5.0 if options.quick else 15.0, Path(folder)))
    print(f"{'':20}" + "".join(f"{name:>14}" for name in found))
    for figure in next(iter(found.values())):
        print(f"{figure:20}" + "".join(f"{found[name][figure]!s:>14}" for name in found))
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    raise SystemExit(any(figures["unfit"] for figures in found.values()))


if __name__ == "__main__":
    main()
