"""What is read out of each benchmark's figures, beside what was aimed at."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

RESULTS: Final = Path(__file__).with_name("results")


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
    bare_s, back_s = (statistics.median(told[key]) for key in ("bare_start_s", "death_to_ready_s"))
    yield Found("death to ready again, of a bare start", f"{back_s / bare_s:.2f}x")
    yield at_most("the same, more than a bare start", 1000 * (back_s - bare_s), 300, " ms", 0)
    yield at_most("idle over 8 children, of a core", told["core_percent"], 1, " %")
    yield at_most("idle over 8 children, memory", told["resident_mib"], 60, " MiB", 0)


def sync(told: Any) -> Iterator[Found]:
    """A model to eight stores."""
    size = f"{told['size_bytes'] / 2**30:.0f} GiB"
    yield Found(
        "a model to 8 stores, of what copying its first GiB to one takes", f"{told['sync_s'] / told['cp_gib_s']:.3f}x"
    )
    yield Found("the same, of as many links by cp", f"{told['sync_s'] / told['cp_link_s']:.1f}x")
    yield at_most(f"a model of {size} to 8 stores", told["sync_s"], 1, " s")
    yield at_most("the same, more on the disk", told["more_bytes"] / 2**20, 1, " MiB")
    yield Found(f"nothing to do for {told['models']} models in 8 stores", f"{told['nothing_to_do_s']:.2f} s")


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
            yield Found(what, f"{theirs[figure] / max(ours[figure], 1e-9):.1f}x")
        yield at_most(f"requests that failed, {workload['workload']}", ours["failed"], 0, digits=0)


def soak(told: Any) -> Iterator[Found]:
    """Faults every few seconds."""
    for name, fleet in told["fleets"].items():
        under = f"{fleet['minutes']:g} min, {fleet['faults']} faults, {fleet['requests']:,} requests"
        yield at_most(f"{name} fleet: rules violated in {under}", fleet["violated"], 0, digits=0)


PARTS: Final = (
    Part("relay-compare", "bench.relay.compare", relay),
    Part("relay-many", "bench.relay.many", many),
    Part("relay-leaks", "bench.relay.leaks", leaks),
    Part("relay-failover", "bench.relay.failover", failover),
    Part("relay-overload", "bench.relay.overload", overload),
    Part("status", "bench.status", status),
    Part("supervision", "bench.supervision", supervision),
    Part("sync", "bench.sync", sync),
    Part("routing", "bench.routing", routing, quick=()),
    Part("live", "bench.live_routing", live, ("--seconds", "180"), ("--seconds", "60")),
    Part("soak", "bench.soak", soak, ("--minutes", "30"), ("--minutes", "2")),
)
