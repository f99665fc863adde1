"""Watches one daemon all the while for what must be true of it at every moment: the rules of the design, as checks."""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import suppress
from typing import Any, Final

import aiohttp
import psutil

from bench.soak.clients import Seen
from bench.soak.fleets import Fleet
from tests.support.daemon import alive

LOOK_S: Final = 0.5
ANSWER_S: Final = 5.0
STRAY_S: Final = 15.0
"""How long a process may be nobody's child: what its server's death left is found and ended."""
FILES_MAX: Final = 2_000
THREADS_MAX: Final = 16
"""One for the driver, and asyncio's own pool, which grows to four more than there are cores."""
MEMORY_MAX_BYTES: Final = 512 << 20
WEIGHED_EVERY_S: Final = 60.0


class Monitor:
    """Looks, and tells the clients' list of violations."""

    def __init__(self, fleet: Fleet, seen: Seen) -> None:
        self._fleet = fleet
        self._seen = seen
        self._strays: dict[int, float] = {}
        self.looks = 0
        self.slowest_s = 0.0
        """Of `/healthz`, on a machine that the load has to itself no more than this does."""
        self.memory_mib: list[int] = []
        """Of the daemon, once a minute."""
        self._weighed_s = -math.inf

    async def run(self, stop: asyncio.Event) -> None:
        """Look until `stop`."""
        async with aiohttp.ClientSession(self._fleet.daemon.status_url) as session:
            while not stop.is_set():
                await self._look(session)
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await stop.wait()

    async def _look(self, session: aiohttp.ClientSession) -> None:
        self.looks += 1
        began_s = time.monotonic()
        try:
            async with asyncio.timeout(ANSWER_S):
                async with session.get("/healthz") as answer:
                    self._must(answer.status == 200, f"/healthz says {answer.status}")
                self.slowest_s = max(self.slowest_s, time.monotonic() - began_s)
                async with session.get("/status") as answer:
                    status = await answer.json()
        except (TimeoutError, aiohttp.ClientError) as error:
            self._seen.violated(f"status does not answer: {error!r}")
            return
        self._judge(status)
        await asyncio.to_thread(self._processes)

    def _must(self, held: object, otherwise: str) -> None:
        if not held:
            self._seen.violated(otherwise)

    def _judge(self, status: dict[str, Any]) -> None:
        children = status["children"]
        self._must(status["in_flight"] == sum(one["in_flight"] for one in children), "in flight: sums differ")
        # A client that has left may still be counted for a moment; one that is there may not be yet.
        most = 2 * self._fleet.clients + 100
        self._must(0 <= status["in_flight"] + status["waiting"] <= most, f"in flight: {status['in_flight']}")
        pids = [one["pid"] for one in children if one["pid"]]
        self._must(len(pids) == len(set(pids)), f"two children are one process: {pids}")
        for one in children:
            self._child(one)

    def _child(self, child: dict[str, Any]) -> None:
        who = f"{self._fleet.name}/{child['id']}"
        self._must(
            child["in_flight"] == len(child["streams"]), f"{who}: {child['in_flight']} in flight, as streams not"
        )
        self._must(not child["routable"] or child["phase"] == "ready", f"{who}: routable while {child['phase']}")
        self._must(child["phase"] != "failed", f"{who}: failed: {child['reason']}")
        self._must(not child["quarantine"] or not child["routable"], f"{who}: routable in quarantine")
        proof = (child["pinning"] or {}).get("proof")
        self._must(proof != "wrong gpu", f"{who}: {child['pinning']}")

    def _processes(self) -> None:
        """Nobody of ours is without a parent of ours for long; and the daemon stays small."""
        with suppress(psutil.NoSuchProcess):
            daemon = psutil.Process(self._fleet.daemon.process.pid)
            family = {daemon.pid, *(one.pid for one in daemon.children(recursive=True))}
            strays = {one.pid for one in alive(self._fleet.daemon.all_processes())} - family
            now_s = time.monotonic()
            self._strays = {pid: self._strays.get(pid, now_s) for pid in strays}
            for pid, since_s in self._strays.items():
                self._must(now_s - since_s < STRAY_S, f"pid {pid} has been an orphan for {now_s - since_s:.0f} s")
            self._must(daemon.num_threads() <= THREADS_MAX, f"{daemon.num_threads()} threads")
            self._must(daemon.num_fds() <= FILES_MAX, f"{daemon.num_fds()} open files")
            memory_bytes = daemon.memory_info().rss
            self._must(memory_bytes <= MEMORY_MAX_BYTES, f"{memory_bytes >> 20} MiB of memory")
            if now_s - self._weighed_s >= WEIGHED_EVERY_S:
                self._weighed_s = now_s
                self.memory_mib.append(memory_bytes >> 20)
