"""Every benchmark in one run, and docs/BENCHMARKS.md of what they found: ratios first, then what was not reached.

`make bench [ARGS="--quick --only relay"]`. Each part runs by itself, one after the other, and leaves its figures in
bench/results/; the page is drawn of what lies there, with `--draw` alone without running anything.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]
RESULTS: Final = ROOT / "bench" / "results"
PAGE: Final = ROOT / "docs" / "BENCHMARKS.md"
HEAD: Final = """\
# Benchmarks

Drawn by `make bench` from `bench/results/`; nothing here is written by hand. Peers and ollamad run in turn in one run
on one machine, so the ratios are what counts: absolute times are this machine's. What each part does stands at the top
of its module in `bench/`.

| part | what | found | aim | |
|---|---|---|---|---|
"""


@dataclass(frozen=True, slots=True)
class Found:
    """One figure, beside what it should be."""

    what: str
    text: str
    aim: str = ""
    is_met: bool | None = None
    """None where nothing was aimed at."""


@dataclass(frozen=True, slots=True)
class Part:
    """One benchmark."""

    name: str
    module: str
    read: Callable[[Any], Iterator[Found]]
    full: tuple[str, ...] = ()
    quick: tuple[str, ...] = ("--quick",)

    @property
    def file(self) -> Path:
        """Where its figures are kept."""
        return RESULTS / f"{self.name}.json"


def at_most(what: str, value: float, aim: float, unit: str = "", digits: int = 2) -> Found:
    """A figure that should be small."""
    return Found(what, f"{value:.{digits}f}{unit}", f"≤ {aim:g}{unit}", value <= aim)


def at_least(what: str, value: float, aim: float, unit: str = "x") -> Found:
    """A figure that should be large."""
    return Found(what, f"{value:.1f}{unit}", f"≥ {aim:g}{unit}", value >= aim)


def supervision(told: Any) -> Iterator[Found]:
    """What supervision costs, and how fast a child is back."""
    yield Found("idle over 8 children", f"{told['core_percent']:.2f} % of a core, {told['resident_mib']:.0f} MiB")
    bare_s, back_s = (sorted(told[key])[len(told[key]) // 2] for key in ("bare_start_s", "death_to_ready_s"))
    yield Found("death to ready again, of a bare start", f"{back_s / bare_s:.2f}x, {1000 * (back_s - bare_s):+.0f} ms")


def relay(told: Any) -> Iterator[Found]:
    """Beside nginx, HAProxy and plain aiohttp."""
    for one in told["compared"]:
        unit = " ms" if one["what"].endswith("_ms") else "x"
        yield at_most(one["what"].removesuffix("_ms"), one["ratio"], one["aim"], unit)


def many(told: Any) -> Iterator[Found]:
    """5,000 streams at once."""
    ours, nginx = told["ollamad"], told["nginx"]
    lost = ours["records_due"] - ours["records"] + ours["broken"] + ours["refused"]
    yield at_most("records lost of 5,000 streams at once", lost, 0, digits=0)
    yield at_most("memory per stream", ours["bytes_per_stream"] / 1024, 24, " KiB", 1)
    yield at_most("first byte p99, all at once", ours["first_p99_ms"], 50, " ms", 0)
    yield Found("the same, of nginx's", f"{ours['first_p99_ms'] / nginx['first_p99_ms']:.1f}x")


def leaks(told: Any) -> Iterator[Found]:
    """Clients that leave at any moment."""
    before, after = told["before"], told["after"]
    grown = 100 * (after["rss_bytes"] / before["rss_bytes"] - 1)
    yield at_most(f"memory grown over {told['requests']:,} requests", grown, 5, " %", 1)
    yield at_most("open files more than before", after["fds"] - before["fds"], 0, digits=0)


def failover(told: Any) -> Iterator[Found]:
    """One child of four killed under 200 streams."""
    yield at_most("requests lost before their first byte", told["lost_before_first_byte"], 0, digits=0)
    yield Found("added to those that waited for it, p99", f"{told['added_p99_ms']:.0f} ms")


def overload(told: Any) -> Iterator[Found]:
    """Ten times what the children can take."""
    tenfold, calm = told["tenfold"], told["half"]
    yield at_most("refusals, p50", tenfold["refusal_p50_ms"], 10, " ms", 1)
    yield at_most("refusals, p99", tenfold["refusal_p99_ms"], 10, " ms", 1)
    ratio = tenfold["whole_p99_ms"] / calm["whole_p99_ms"]
    yield Found("accepted, whole answer p99, of that at half load", f"{ratio:.2f}x")
    yield Found("memory grown", f"{tenfold['grown_bytes'] / 2**20:.1f} MiB")


def status(told: Any) -> Iterator[Found]:
    """2,000 looks a second beside 500 streams; 50 dashboards."""
    yield at_most("p99 between chunks moves by, 2,000 looks a second", told["late_p99_moved_ms"], 5, " ms", 1)
    yield at_most("50 dashboards, of a core", told["viewers_cost_percent_idle"], 5, " %")


ROUTED: Final = (
    ("all fit 0.5/s", "p95_s", 8.0),
    ("all fit 1/s", "p95_s", 8.0),
    ("all fit 2/s", "p95_s", 8.0),
    ("half fit 0.6/s", "p50_s", 8.0),
    ("half fit 0.6/s", "loads", 4.0),
    ("one model, saturated", "p95_s", 1.0),
)


def routing(told: Any) -> Iterator[Found]:
    """In virtual time, beside nginx's least_conn."""
    found = {(one["workload"], one["policy"]): one for one in told["results"]}
    for workload, figure, aim in ROUTED:
        theirs, ours = (found[workload, policy][figure] for policy in ("least_conn", "ollamad"))
        what = f"{figure.removesuffix('_s')} of least_conn's, {workload}"
        yield at_least(what, round(theirs / ours, 2), aim)
    yield at_most("one decision, median", told["decide_median_s"] * 1e6, 50, " µs", 0)


def live(told: Any) -> Iterator[Found]:
    """Real nginx, real ollamad, simulated Ollamas."""
    for workload in told:
        by = {one["party"]: one for one in workload["results"]}
        theirs, ours = by["nginx least_conn"], by["ollamad"]
        for figure in ("ttft_p50_s", "ttft_p95_s", "loads"):
            what = f"{figure.removesuffix('_s')} of nginx least_conn's, {workload['workload']}"
            yield Found(what, f"{theirs[figure] / ours[figure]:.1f}x")


def soak(told: Any) -> Iterator[Found]:
    """Faults every few seconds."""
    for name, fleet in told["fleets"].items():
        under = f"{fleet['minutes']:g} min, {fleet['faults']} faults, {fleet['requests']:,} requests"
        yield at_most(f"{name}: rules violated in {under}", fleet["violated"], 0, digits=0)


PARTS: Final = (
    Part("relay-compare", "bench.relay.compare", relay),
    Part("relay-many", "bench.relay.many", many),
    Part("relay-leaks", "bench.relay.leaks", leaks),
    Part("relay-failover", "bench.relay.failover", failover),
    Part("relay-overload", "bench.relay.overload", overload),
    Part("status", "bench.status", status),
    Part("supervision", "bench.supervision", supervision),
    Part("routing", "bench.routing", routing, quick=()),
    Part("live", "bench.live_routing", live, ("--seconds", "180"), ("--seconds", "60")),
    Part("soak", "bench.soak", soak, ("--minutes", "30"), ("--minutes", "2")),
)


def run(part: Part, *, quick: bool) -> bool:
    """Run one, its output as it comes; gives whether it ended well."""
    print(f"\n=== {part.name}", flush=True)
    more = part.quick if quick else part.full
    command = [sys.executable, "-m", part.module, *more, "--json", str(part.file)]
    return subprocess.run(command, cwd=ROOT, check=False).returncode == 0


def draw() -> str:
    """The page, of the figures that there are."""
    rows, missed = [], []
    for part in PARTS:
        if not part.file.exists():
            continue
        when = datetime.fromtimestamp(part.file.stat().st_mtime, UTC)
        for found in part.read(json.loads(part.file.read_text())):
            mark = {True: "reached", False: "**not reached**", None: ""}[found.is_met]
            rows.append(f"| {part.name} | {found.what} | {found.text} | {found.aim} | {mark} |")
            if found.is_met is False:
                missed.append(f"- {part.name}: {found.what}: {found.text}, aimed at {found.aim}")
        rows[-1] += f" <!-- {when:%Y-%m-%d} -->"
    why = "[RELAY.md](RELAY.md) and [ROUTING.md](ROUTING.md) say why, as far as it is known."
    return "\n".join([HEAD + "\n".join(rows), "", "## Not reached", "", *missed, "", why, "", *machine(), ""])


def machine() -> Sequence[str]:
    """What it ran on."""
    info = Path("/proc/cpuinfo").read_text()
    model = next((line.partition(": ")[2] for line in info.splitlines() if line.startswith("model name")), "unknown")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        "## The machine",
        "",
        f"{os.cpu_count()} cores of {model}, {memory:.0f} GiB, Linux {platform.release()}.",
        f"Python {platform.python_version()}, drawn on {time.strftime('%Y-%m-%d', time.gmtime())}.",
        "It is a virtual machine, and the load, the peers and ollamad share its cores.",
    )


def main() -> None:
    """Run what is asked for, and draw the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="shorter, and less exact")
    parser.add_argument("--only", default="", metavar="WORD", help="parts whose name has this in it")
    parser.add_argument("--draw", action="store_true", help="run nothing")
    options = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    asked = () if options.draw else tuple(part for part in PARTS if options.only in part.name)
    failed = [part.name for part in asked if not run(part, quick=options.quick)]
    PAGE.write_text(draw())
    print(f"\n{PAGE.relative_to(ROOT)} is drawn" + (f"; these parts failed: {', '.join(failed)}" if failed else ""))
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
