"""Thousands of streams at once: is every record there, what memory does a stream cost, how long is the first byte.

`python -m bench.relay.many [--quick] [--json PATH]`: nginx and ollamad in turn, beside the backend itself. All clients
connect and ask at once, so the first byte says how long it takes to get through the crowd. Requests are sent to the
children as they come (`routing.policy`): they are to wait for the relay, not for a slot. Those that wait for a slot are
in `overload.py`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import uvloop

from bench.relay import parties
from bench.relay.load import drive, many_files, post, summary
from bench.relay.parties import Party

CHUNKS: Final = 12
PAUSE_MS: Final = 1000.0
FIRST_MS: Final = 3000.0
"""The first byte is put off until all are connected, so that all streams are open at once."""
LOOK_S: Final = 0.2
AT_ONCE: Final[dict[str, dict[str, Any]]] = {"routing": {"policy": "least_inflight"}}


async def measure(streams: int, folder: Path) -> dict[str, Any]:
    """Everybody in turn."""
    async with AsyncExitStack() as stack:
        direct = await stack.enter_async_context(parties.backend(folder))
        nginx = await stack.enter_async_context(parties.nginx(folder, direct.port))
        ollamad = await stack.enter_async_context(parties.ollamad(folder, children=4, tables=AT_ONCE))
        return {party.name: await _run(party, streams) for party in (direct, nginx, ollamad)}


async def _run(party: Party, streams: int) -> dict[str, Any]:
    await drive(party.port, 200, 2, post(3, 5.0))  # once around, so that what is allocated once is
    before, peak = party.rss_bytes(), 0
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(drive(party.port, streams, 1, post(CHUNKS, PAUSE_MS, FIRST_MS), at_once=streams))
        while not running.done():
            peak = max(peak, party.rss_bytes())
            await asyncio.sleep(LOOK_S)
    seen = running.result()
    return {
        "done": seen.done,
        "records": seen.records,
        "records_due": streams * (CHUNKS + 1),
        "broken": seen.broken,
        "refused": seen.refused,
        "bytes_per_stream": round((peak - before) / streams),
        **{f"first_{name}": round(value - FIRST_MS, 1) for name, value in summary(seen.first_s).items()},
    }


def main() -> None:
    """Measure, print, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the streams")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    many_files()
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(measure(500 if options.quick else 5000, Path(folder)))
    for name, figures in found.items():
        print(name, *(f"{key}={value}" for key, value in figures.items()))
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
