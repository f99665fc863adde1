"""A million fuzzed requests over many connections: no crash, no hang, no growth.

`python -m bench.abuse.fuzz [--requests N] [--seed N] [--json PATH]`. Exit status 1 where any of the three is seen.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, cast

import uvloop

from bench.abuse.corpus import fuzzed
from bench.relay import parties
from bench.relay.load import many_files
from bench.relay.parties import Party
from ollamad.access.file import write_keys
from ollamad.access.key import ENTROPY_BYTES, Grant, Scope, mint

AT_ONCE: Final = 100
PIPELINED_MAX: Final = 4
PATIENCE_S: Final = 0.3
"""How long an answer is waited for: half of what is sent is no whole request."""
PROBE_EVERY: Final = 5000
PROBE_S: Final = 20.0
WARM_UP: Final = 0.2
"""This share of the requests comes before memory is looked at: what is allocated once is no growth."""
GROWTH_MAX_BYTES: Final = 16 * 1024**2
SETTLED_S: Final = 5.0
STATUS_SHARE: Final = 0.1
"""Of the requests, those that go to the status listener."""
CRASH: Final = re.compile(r"Traceback|crashed|fault")
STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([0-9]{3}) ")
LIMITS: Final = {"header_timeout_s": 2.0, "body_timeout_s": 2.0, "linger_s": 0.2, "ready_wait_s": 1.0}


class Client(asyncio.Protocol):
    """One connection: sends, counts what comes back, and says when it is over."""

    def __init__(self, payload: bytes, answers: int, statuses: Counter[str]) -> None:
        self._payload = payload
        self._missing = answers
        self._statuses = statuses
        self.over = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send all at once."""
        cast("asyncio.Transport", transport).write(self._payload)

    def data_received(self, data: bytes) -> None:
        """Count the answers by their status; it is over when there are as many as requests."""
        found = STATUS_LINE.findall(data)
        self._statuses.update(status.decode() for status in found)
        self._missing -= len(found)
        if self._missing <= 0 and not self.over.done():
            self.over.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """The other side has had enough."""
        if not self.over.done():
            self.over.set_result(None)


class Storm:
    """All that is sent, and what came of it."""

    def __init__(self, party: Party, key: bytes, seed: int) -> None:
        self._party = party
        self._key = key
        self._luck = random.Random(seed)
        self.sent = 0
        self.statuses: Counter[str] = Counter()
        self.slowest_probe_s = 0.0

    async def rage(self, requests: int) -> None:
        """Send so many more. Raises TimeoutError where a good one gets no answer, OSError where nobody listens."""
        until = self.sent + requests
        async with asyncio.TaskGroup() as tasks:
            for _ in range(AT_ONCE):
                tasks.create_task(self._client(until))

    async def _client(self, until: int) -> None:
        while self.sent < until:
            count = self._luck.randint(1, PIPELINED_MAX)
            before, self.sent = self.sent, self.sent + count
            with suppress(ConnectionError):
                await self._one(b"".join(fuzzed(self._luck, self._key) for _ in range(count)), count)
            if before // PROBE_EVERY != self.sent // PROBE_EVERY:
                await self.probe()

    async def _one(self, payload: bytes, count: int) -> None:
        status = self._luck.random() < STATUS_SHARE
        port = (self._party.status_port if status else None) or self._party.port
        loop = asyncio.get_running_loop()
        transport, client = await loop.create_connection(
            lambda: Client(payload, count, self.statuses), "127.0.0.1", port
        )
        await asyncio.wait([client.over], timeout=PATIENCE_S)
        if self._luck.random() < 0.3:
            transport.abort()
        transport.close()

    async def probe(self) -> None:
        """A good request must be answered, whatever goes on."""
        began_s = time.monotonic()
        async with asyncio.timeout(PROBE_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", self._party.port)
            writer.write(b"GET /api/version HTTP/1.0\r\nHost: localhost\r\nX-Api-Key: %b\r\n\r\n" % self._key)
            answer = await reader.read()
            writer.close()
        if b" 200 OK" not in answer:
            raise RuntimeError(f"a good request was answered with {answer[:300]!r}")
        self.slowest_probe_s = max(self.slowest_probe_s, time.monotonic() - began_s)
        if sys.stderr.isatty():
            print(f"\r{self.sent} requests, {self._party.rss_bytes() >> 20} MiB", end="", file=sys.stderr, flush=True)


async def measure(requests: int, seed: int, folder: Path) -> dict[str, Any]:
    """Run it, and tell what was seen."""
    _, key, kept = mint(Grant(name="fuzz", scopes=(*Scope,)), b"f" * ENTROPY_BYTES, datetime.now(UTC))
    write_keys(folder / "keys.toml", {"mztgmztg": kept})
    tables: dict[str, dict[str, Any]] = {
        "access": {"keys_file": str(folder / "keys.toml")},
        "proxy": LIMITS,
        "control": {"socket": str(folder / "control.sock")},
        "log": {"level": "error"},
    }
    async with parties.ollamad(folder, children=2, tables=tables) as party:
        storm = Storm(party, key.encode(), seed)
        await storm.probe()
        await storm.rage(int(requests * WARM_UP))
        before = await _look(party)
        began_s = time.monotonic()
        await storm.rage(requests - storm.sent)
        took_s = time.monotonic() - began_s
        await storm.probe()
        after = await _look(party)
    log = (folder / "ollamad.log").read_text(errors="replace")
    crashes = Counter(_crash(line) for line in log.splitlines() if CRASH.search(line))
    return {
        "requests": storm.sent,
        "seed": seed,
        "requests_per_s": round((requests * (1 - WARM_UP)) / took_s),
        "answers": dict(storm.statuses.most_common(30)),
        "slowest_probe_s": round(storm.slowest_probe_s, 3),
        "before": before,
        "after": after,
        "crashes": dict(crashes.most_common(20)),
    }


def _crash(line: str) -> str:
    """Where it was, and what: the numbers in it are another each time."""
    try:
        told = json.loads(line)
    except ValueError:
        return line[:200]
    return f"{told.get('event')} {told.get('path')}: {str(told.get('exception')).splitlines()[-1][:100]}"


async def _look(party: Party) -> dict[str, Any]:
    await asyncio.sleep(SETTLED_S)
    status = json.loads(await parties.get(party.status_port or 0, "/status"))
    deaths = sum(child["deaths"] for child in status["children"])
    return {"rss_bytes": party.rss_bytes(), "fds": party.fds(), "in_flight": status["in_flight"], "deaths": deaths}


def main() -> None:
    """Storm, print, write JSON; exit 1 on a crash, a hang or growth."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    many_files()
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(measure(options.requests, options.seed, Path(folder)))
    print(json.dumps(found, indent=2))
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    before, after = found["before"], found["after"]
    grown = after["rss_bytes"] - before["rss_bytes"]
    held = after["fds"] > before["fds"] + AT_ONCE or after["in_flight"] > 0
    megabytes = grown / 1024**2
    print(f"crashes {len(found['crashes'])}, memory {megabytes:+.1f} MiB, slowest probe {found['slowest_probe_s']} s")
    raise SystemExit(bool(found["crashes"]) or grown > GROWTH_MAX_BYTES or held)


if __name__ == "__main__":
    main()
