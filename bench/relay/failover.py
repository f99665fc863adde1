"""One of four children is killed under 200 streams: what is lost before its first byte, and how late the others are.

`python -m bench.relay.failover [--quick] [--json PATH]`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import uvloop

from bench.relay import parties
from bench.relay.load import drive, percentile, post

STREAMS: Final = 200
FIRST_MS: Final = 150.0
"""Half of each request's time is before its first byte, so that many are waiting when the child dies."""
CHUNKS: Final = 15
PAUSE_MS: Final = 10.0
KILL_AFTER_S: Final = 1.5


async def measure(requests_each: int, folder: Path) -> dict[str, Any]:
    """Kill a child in the middle, and see what clients saw."""
    async with parties.ollamad(folder, children=4) as party:
        await drive(party.port, STREAMS, 1, post(2, PAUSE_MS))
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(
                drive(party.port, STREAMS, requests_each, post(CHUNKS, PAUSE_MS, FIRST_MS), at_once=STREAMS)
            )
            await asyncio.sleep(KILL_AFTER_S)
            status = json.loads(await parties.get(party.status_port or 0, "/status"))
            os.kill(status["children"][0]["pid"], signal.SIGKILL)
            killed_s = time.perf_counter()
    seen = running.result()
    spans = list(zip(seen.began_s, seen.first_s, strict=True))
    usual = [first for began, first in spans if began + first < killed_s]
    hit = [first for began, first in spans if began < killed_s < began + first]
    usual_s = percentile(usual, 0.5)
    return {
        "requests": STREAMS * requests_each,
        "done": seen.done,
        "lost_before_first_byte": seen.refused + seen.broken,
        "ended_with_an_error_after_it": seen.told,
        "waiting_when_it_died": len(hit),
        "usual_first_p50_ms": round(usual_s * 1000, 1),
        "usual_first_p99_ms": round(percentile(usual, 0.99) * 1000, 1),
        "added_p50_ms": round((percentile(hit, 0.5) - usual_s) * 1000, 1),
        "added_p99_ms": round((percentile(hit, 0.99) - usual_s) * 1000, 1),
    }


def main() -> None:
    """Measure, print, write JSON; exit 1 where a request was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer requests")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(measure(10 if options.quick else 40, Path(folder)))
    print(json.dumps(found, indent=2))
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    raise SystemExit(found["lost_before_first_byte"] > 0)


if __name__ == "__main__":
    main()
