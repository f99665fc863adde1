"""What a streamed chunk, a small request and the first byte cost, beside nginx, HAProxy and a plain aiohttp relay.

`python -m bench.relay.compare [--quick] [--json PATH]`. All take turns on the same work in one run, several rounds of
it, and the median round counts: this is a comparison, and absolute figures are this machine's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import uvloop

from bench.relay import parties
from bench.relay.load import GET, Seen, drive, post, summary
from bench.relay.parties import Party

STREAMS: Final = 50
PAUSE_MS: Final = 10.0
CONCURRENCIES: Final = (1, 32, 512)
AIMS: Final = (
    ("CPU per chunk, of nginx's", "chunk", "nginx", 1.0),
    ("CPU per chunk, of HAProxy's", "chunk", "haproxy", 1.2),
    ("CPU per chunk, of plain aiohttp's", "chunk", "plain aiohttp", 1 / 2.2),
    ("CPU per small request, of nginx's", "request", "nginx", 2.0),
)
"""What is compared, the figure, with whom, and the ratio that it should stay under."""


@dataclass(frozen=True, slots=True)
class Work:
    """How much of each is done."""

    rounds: int
    chunks: int
    requests: int


FULL: Final = Work(rounds=5, chunks=600, requests=20_000)
QUICK: Final = Work(rounds=3, chunks=300, requests=4_000)


async def measure(work: Work, folder: Path) -> dict[str, Any]:
    """Everybody in turn, round after round."""
    async with AsyncExitStack() as stack:
        direct = await stack.enter_async_context(parties.backend(folder))
        others = [
            await stack.enter_async_context(party(folder, direct.port))
            for party in (parties.nginx, parties.haproxy, parties.plain, parties.bare)
        ]
        everybody = [direct, *others, await stack.enter_async_context(parties.ollamad(folder))]
        found: dict[str, dict[str, list[Any]]] = {party.name: {} for party in everybody}
        for party in everybody:  # once around, so that nobody pays for a first time
            await drive(party.port, STREAMS, 1, post(5, PAUSE_MS))
        for _ in range(work.rounds):
            for party in everybody:
                for name, value in (await _round(party, work)).items():
                    found[party.name].setdefault(name, []).append(value)
    return {name: {key: _middle(values) for key, values in figures.items()} for name, figures in found.items()}


async def _round(party: Party, work: Work) -> dict[str, float]:
    figures: dict[str, float] = {}
    before_s = party.cpu_s()
    seen = await drive(party.port, STREAMS, 1, post(work.chunks, PAUSE_MS, spread=True))
    _whole(party, seen, STREAMS, STREAMS * (work.chunks + 1))
    figures["chunk_us"] = (party.cpu_s() - before_s) / (STREAMS * work.chunks) * 1e6
    before_s = party.cpu_s()
    seen = await drive(party.port, 32, work.requests // 32, GET)
    _whole(party, seen, work.requests // 32 * 32)
    figures["request_us"] = (party.cpu_s() - before_s) / seen.done * 1e6
    for concurrency in CONCURRENCIES:
        each = max(work.requests // 10 // concurrency, 2)
        seen = await drive(party.port, concurrency, each, GET)
        _whole(party, seen, concurrency * each)
        figures |= {f"request_{concurrency}_{name}": value for name, value in summary(seen.whole_s).items()}
        seen = await drive(party.port, concurrency, max(work.requests // 20 // concurrency, 2), post(2, 1.0, 5.0))
        figures |= {f"first_{concurrency}_{name}": value for name, value in summary(seen.first_s).items()}
    return figures


def _whole(party: Party, seen: Seen, done: int, records: int | None = None) -> None:
    """Nobody is measured who loses something."""
    if seen.done != done or seen.broken or seen.refused or (records is not None and seen.records != records):
        raise RuntimeError(
            f"{party.name} lost something: {seen.done} of {done} done, {seen.records} of {records} records"
        )


def _middle(values: list[float]) -> float:
    return round(statistics.median(values), 3)


def ratios(found: dict[str, Any]) -> list[dict[str, Any]]:
    """What was aimed at, and what is."""
    mine = found["ollamad"]
    compared = [
        {"what": what, "ratio": round(mine[f"{figure}_us"] / found[peer][f"{figure}_us"], 2), "aim": round(aim, 2)}
        for what, figure, peer, aim in AIMS
    ]
    for name, aim_ms in (("p50_ms", 0.3), ("p99_ms", 2.0)):
        added = mine[f"first_32_{name}"] - found["direct"][f"first_32_{name}"]
        compared.append({"what": f"added to the first byte at 32, {name}", "ratio": round(added, 2), "aim": aim_ms})
    return compared


def tell(found: dict[str, Any], compared: list[dict[str, Any]]) -> None:
    """Print it as tables."""
    columns = ["chunk_us", "request_us"]
    columns += [f"{kind}_{n}_{p}_ms" for kind in ("request", "first") for n in CONCURRENCIES for p in ("p50", "p99")]
    print(f"{'':22}" + "".join(f"{name:>15}" for name in found))
    for column in columns:
        print(f"{column:22}" + "".join(f"{figures[column]:15.3f}" for figures in found.values()))
    print()
    for line in compared:
        met = "met" if line["ratio"] <= line["aim"] else "NOT met"
        print(f"{line['what']:44} {line['ratio']:8.2f}   aim {line['aim']:.2f}   {met}")


def main() -> None:
    """Measure, print, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less of it")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        found = runner.run(measure(QUICK if options.quick else FULL, Path(folder)))
    compared = ratios(found)
    tell(found, compared)
    if options.json:
        options.json.write_text(json.dumps({"figures": found, "compared": compared}, indent=2) + "\n")


if __name__ == "__main__":
    main()
