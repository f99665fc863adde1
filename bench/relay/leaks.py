"""A hundred thousand requests whose clients leave at any moment: what is left of them in the daemon afterwards.

`python -m bench.relay.leaks [--quick] [--json PATH]`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import uvloop

from bench.relay import parties
from bench.relay.load import GET, many_files, post
from bench.relay.parties import Party

AT_ONCE: Final = 64
LEAVES_WITHIN_S: Final = 0.02
WARM_UP: Final = 0.2
"""This share of the requests comes before the first look: what is allocated once is no leak."""
POOL: Final[dict[str, dict[str, Any]]] = {"proxy": {"child_idle_timeout_s": 1.0}}
"""Connections to children that wait for a next request are no leak, but come and go: none are left at the looks."""
STEADY_LOOKS: Final = 5
LOOK_S: Final = 0.5
"""Clients that do not wait for answers are faster than any relay: what they left in line is served first."""


async def measure(requests: int, folder: Path) -> dict[str, Any]:
    """Before, after, and how many requests there were in between."""
    async with parties.ollamad(folder, children=2, tables=POOL) as party:
        await _storm(party.port, int(requests * WARM_UP))
        before = await _look(party)
        await _storm(party.port, requests)
        return {"requests": requests, "before": before, "after": await _look(party)}


async def _look(party: Party) -> dict[str, int]:
    """Once nothing is in flight, and open files have stopped changing."""
    seen: list[tuple[int, int]] = []
    while len(seen) < STEADY_LOOKS or len(set(seen[-STEADY_LOOKS:])) > 1:
        await asyncio.sleep(LOOK_S)
        status = json.loads(await parties.get(party.status_port or 0, "/status"))
        seen.append((status["in_flight"], party.fds()))
    return {"rss_bytes": party.rss_bytes(), "fds": seen[-1][1], "in_flight": seen[-1][0]}


async def _storm(port: int, requests: int) -> None:
    luck = random.Random(1)
    left = iter(range(requests))

    async def client() -> None:
        for _ in left:
            with suppress(OSError):
                await _one(port, luck)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(AT_ONCE):
            tasks.create_task(client())


async def _one(port: int, luck: random.Random) -> None:
    """Ask, read for a while or to the end, and leave: by the door or through the wall."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(luck.choice((GET, post(3, 2.0), post(1, 0.0, 5.0))))
        with suppress(TimeoutError):
            async with asyncio.timeout(luck.random() * LEAVES_WITHIN_S):
                await reader.readuntil(b"0\r\n\r\n")
    finally:
        if luck.random() < 0.5:
            writer.transport.abort()
        writer.close()


def main() -> None:
    """Measure, print, write JSON; exit 1 where something is left."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the requests")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    many_files()
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(measure(10_000 if options.quick else 100_000, Path(folder)))
    print(json.dumps(found, indent=2))
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    before, after = found["before"], found["after"]
    grown = after["rss_bytes"] / before["rss_bytes"] - 1
    print(f"memory {grown:+.1%}, open files {after['fds'] - before['fds']:+d}, in flight {after['in_flight']}")
    raise SystemExit(grown > 0.05 or after["fds"] > before["fds"] * 1.05 or after["in_flight"] > 0)


if __name__ == "__main__":
    main()
