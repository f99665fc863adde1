"""What supervision costs, and how fast it is. `make bench-supervision`.

Prints the daemon's share of one core and its resident memory, idle over 8 stand-in children; and the time from a real
child's death to a replacement that answers, beside the time that the same Ollama takes to start alone, in turn.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import psutil

from ollamad.demo.parts import default_cache, packaged_ollama
from tests.support.daemon import Daemon, Daemons, odd_program, send_signal
from tests.support.real_ollama import bare_ollama

CHILDREN: Final = 8
SETTLE_S: Final = 15.0
"""Until a child counts as idle, and is asked less often."""
LOOK_S: Final = 0.002


async def idle_cost(folder: Path, window_s: float) -> dict[str, float]:
    """The daemon's share of one core, and its memory, over idle children."""
    orders = folder / "orders"
    orders.mkdir()
    config: dict[str, dict[str, Any]] = {
        "gpus": {"cpu_children": CHILDREN},
        "ollama": {"env": {"ODD_ORDERS": str(orders)}},
        "log": {"level": "info"},
    }
    async with Daemons(folder).run(odd_program(folder), config) as daemon:
        await daemon.until_ready(CHILDREN)
        await asyncio.sleep(SETTLE_S)
        process = psutil.Process(daemon.process.pid)
        before, began_s = process.cpu_times(), time.monotonic()
        await asyncio.sleep(window_s)
        after, took_s = process.cpu_times(), time.monotonic() - began_s
        spent_s = after.user + after.system - before.user - before.system
        return {"core_percent": 100 * spent_s / took_s, "resident_mib": process.memory_info().rss / 2**20}


async def recovery(folder: Path, rounds: int) -> dict[str, list[float]]:
    """Seconds for a bare start, and from a death to a replacement that takes requests, one of each in turn."""
    binary = packaged_ollama(default_cache())
    bare_s: list[float] = []
    back_s: list[float] = []
    config: dict[str, dict[str, Any]] = {
        "gpus": {"cpu_children": 1},
        "log": {"level": "info"},
        "supervision": {"healthy_after_s": 0.001},
    }
    async with Daemons(folder).run(binary, config) as daemon:
        await daemon.until_ready(1)
        for number in range(rounds):
            began_s = time.monotonic()
            async with bare_ollama(binary, folder / "bare-store", folder / f"bare{number}"):
                bare_s.append(time.monotonic() - began_s)
            back_s.append(await _killed(daemon))
    return {"bare_start_s": bare_s, "death_to_ready_s": back_s}


async def _killed(daemon: Daemon) -> float:
    child = await daemon.child("cpu0")
    began_s = time.monotonic()
    send_signal(child["pid"], signal.SIGKILL)
    while True:
        now = await daemon.child("cpu0")
        if now["life"] > child["life"] and now["routable"]:
            return time.monotonic() - began_s
        await asyncio.sleep(LOOK_S)


async def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="shorter, and less exact")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the figures")
    options = parser.parse_args()
    window_s, rounds = (10.0, 3) if options.quick else (60.0, 11)
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as other:
        cost = await idle_cost(Path(folder), window_s)
        times = await recovery(Path(other), rounds)
    bare_s, back_s = (statistics.median(times[key]) for key in ("bare_start_s", "death_to_ready_s"))
    share, memory = cost["core_percent"], cost["resident_mib"]
    print(f"idle over {CHILDREN} children   {share:.2f} % of a core, {memory:.1f} MiB resident")
    print(f"bare start of Ollama   {1000 * bare_s:.0f} ms (median of {rounds})")
    print(f"death to ready again   {1000 * back_s:.0f} ms, {1000 * (back_s - bare_s):+.0f} ms beside a bare start")
    if options.json:
        options.json.write_text(json.dumps({**cost, **times}, indent=1))


if __name__ == "__main__":
    asyncio.run(main())
