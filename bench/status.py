"""What being looked at costs, and whether streams feel it. `make bench-status` (ARGS="--quick").

500 streams over 8 stand-in children, quiet and with 1,000 `/status` and 1,000 `/metrics` a second asked for, in turn;
then 50 open dashboards, over an idle fleet and over the streams. Askers and viewers are processes of their own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import uvloop

from bench.relay import parties
from bench.relay.load import many_files, percentile, post
from bench.relay.parties import ROOT, Party

CHILDREN: Final = 8
STREAMS: Final = 500
PAUSE_MS: Final = 100.0
"""Between the records of a stream: 5,000 records a second in all."""
SETTLE_S: Final = 2.0
"""From the first request to when all streams flow, and what was started costs nothing more."""
PATHS: Final = ("/status", "/metrics")
ASKED_PER_S: Final = 1000
"""Of each path."""
ASKERS: Final = 16
"""Connections, each kept."""
VIEWERS: Final = 50
PHASE: Final = "phase"


class Listener(asyncio.Protocol):
    """One client of one stream; notes when its pieces come."""

    def __init__(self, request: bytes, gaps_s: list[float], since_s: float) -> None:
        self._request = request
        self._gaps_s = gaps_s
        self._since_s = since_s
        self._last_s: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected: ask."""
        transport.write(self._request)  # type: ignore[attr-defined]  # it is a Transport

    def data_received(self, data: bytes) -> None:  # noqa: ARG002
        """A record."""
        now_s = time.perf_counter()
        if self._last_s is not None and now_s >= self._since_s:
            self._gaps_s.append(now_s - self._last_s)
        self._last_s = now_s


@asynccontextmanager
async def streaming(port: int, streams: int, length_s: float) -> AsyncIterator[list[float]]:
    """So many streams, which outlast the block; gives the gaps between records, in seconds."""
    loop, gaps_s = asyncio.get_running_loop(), list[float]()
    request = post(round((length_s + 60) * 1000 / PAUSE_MS), PAUSE_MS)
    since_s = time.perf_counter() + SETTLE_S
    transports = []
    for number in range(streams):
        transport, _ = await loop.create_connection(lambda: Listener(request, gaps_s, since_s), "127.0.0.1", port)
        transports.append(transport)
        if number % 20 == 0:  # not all in one instant: their records would come in one instant, too
            await asyncio.sleep(PAUSE_MS / 1000 * 20 / streams)
    try:
        yield gaps_s
    finally:
        for transport in transports:
            transport.abort()


async def gaps(party: Party, streams: int, length_s: float, *, asked: bool) -> dict[str, float]:
    """The gaps between records, and the daemon's share of a core, quiet or asked."""
    async with streaming(party.port, streams, length_s) as gaps_s:
        asking = await _helper("ask", party, SETTLE_S + length_s) if asked else None
        await asyncio.sleep(SETTLE_S)
        spent_s, began_s = party.cpu_s(), time.monotonic()
        await asyncio.sleep(length_s)
        share = (party.cpu_s() - spent_s) / (time.monotonic() - began_s)
        found = {"core_percent": 100 * share, "p99_ms": percentile(gaps_s, 0.99) * 1000 - PAUSE_MS}
        if asking is not None:
            told, _ = await asking.communicate()
            found |= json.loads(told)
        return found


async def viewed(party: Party, streams: int, length_s: float, viewers: int) -> float:
    """The daemon's share of a core with so many dashboards open."""
    async with streaming(party.port, streams, length_s):
        viewing = await _helper("view", party, SETTLE_S + length_s, viewers) if viewers else None
        await asyncio.sleep(SETTLE_S)
        spent_s, began_s = party.cpu_s(), time.monotonic()
        await asyncio.sleep(length_s)
        share = (party.cpu_s() - spent_s) / (time.monotonic() - began_s)
        if viewing is not None:
            await viewing.communicate()
        return 100 * share


async def measure(folder: Path, streams: int, length_s: float, rounds: int) -> dict[str, Any]:
    """Everything, in turn."""
    async with parties.ollamad(folder, CHILDREN, {"control": {"socket": str(folder / "control.sock")}}) as party:
        await gaps(party, streams, 1.0, asked=True)  # once around, so that what is allocated once is
        quiet, asked = [], []
        for _ in range(rounds):
            quiet.append(await gaps(party, streams, length_s, asked=False))
            asked.append(await gaps(party, streams, length_s, asked=True))
        views = {
            f"{name}_{viewers}_viewers_core_percent": round(await viewed(party, number, length_s, viewers), 2)
            for name, number in (("idle", 0), ("streaming", streams))
            for viewers in (0, VIEWERS)
        }

    def middle(rows: list[dict[str, float]], key: str) -> float:
        return round(statistics.median(row[key] for row in rows), 3)

    return {
        "streams": streams,
        "rounds": rounds,
        "asked_per_s": middle(asked, "asked_per_s"),
        "answer_p99_ms": middle(asked, "answer_p99_ms"),
        "late_p99_quiet_ms": middle(quiet, "p99_ms"),
        "late_p99_asked_ms": middle(asked, "p99_ms"),
        "late_p99_moved_ms": round(middle(asked, "p99_ms") - middle(quiet, "p99_ms"), 3),
        "core_percent_quiet": middle(quiet, "core_percent"),
        "core_percent_asked": middle(asked, "core_percent"),
        **views,
        "viewers_cost_percent_idle": _cost(views, "idle"),
        "viewers_cost_percent_streaming": _cost(views, "streaming"),
        "each_round": {"quiet": quiet, "asked": asked},
    }


def _cost(views: dict[str, float], name: str) -> float:
    return round(views[f"{name}_{VIEWERS}_viewers_core_percent"] - views[f"{name}_0_viewers_core_percent"], 2)


async def _helper(what: str, party: Party, length_s: float, count: int = 0) -> asyncio.subprocess.Process:
    arguments = (f"--{PHASE}", what, str(party.status_port), str(length_s), str(count))
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.status", *arguments), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )


async def ask(port: int, length_s: float, _count: int) -> None:
    """Ask for each path at its rate, over kept connections; tells how many were answered, and how late."""
    took_s: list[float] = []
    end_s = time.perf_counter() + length_s
    pause_s = ASKERS / (ASKED_PER_S * len(PATHS))

    async def asker(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
        question = f"GET {PATHS[number % len(PATHS)]} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
        due_s = time.perf_counter() + pause_s * number / ASKERS
        while due_s < end_s:
            await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
            began_s = time.perf_counter()
            writer.write(question)
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]))
            took_s.append(time.perf_counter() - began_s)
            due_s += pause_s
        writer.close()

    began_s = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for number in range(ASKERS):
            tasks.create_task(asker(number))
    rate = len(took_s) / (time.perf_counter() - began_s)
    print(json.dumps({"asked_per_s": rate, "answer_p99_ms": percentile(took_s, 0.99) * 1000}))


async def view(port: int, length_s: float, count: int) -> None:
    """Hold so many dashboards open, and read what they are told."""

    async def viewer() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        while await reader.read(1 << 20):
            pass

    with_end = asyncio.timeout(length_s)
    try:
        async with with_end, asyncio.TaskGroup() as tasks:
            for _ in range(count):
                tasks.create_task(viewer())
    except TimeoutError:
        return


def main() -> None:
    """Measure, print, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="once and short")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument(f"--{PHASE}", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    many_files()
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        if options.phase:
            what, port, length_s, count = options.phase
            runner.run({"ask": ask, "view": view}[what](int(port), float(length_s), int(count)))
            return
        length_s, rounds = (4.0, 1) if options.quick else (8.0, 5)
        found = runner.run(measure(Path(folder), STREAMS, length_s, rounds))
    for name, value in found.items():
        if name != "each_round":
            print(f"{name:36} {value}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
