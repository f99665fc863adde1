"""docs/BENCHMARKS.md: ratios first, what was not reached, the figures behind them, and how they ran.

Drawn of what lies in bench/results/ and of nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, Final

from bench.findings import PARTS, RESULTS

RAN: Final = RESULTS / "ran.json"
"""Of each part: which commit and machine, when, and for how long."""
HEAD: Final = """\
# Benchmarks

Drawn by `make bench` from `bench/results/`; nothing here is written by hand. Peers and ollamad run in turn in one run
on one machine, so the ratios are what counts: absolute times are this machine's. What each part does stands at the top
of its module in `bench/`.

| part | what | found | aim | |
|---|---|---|---|---|
"""


def ran_before() -> dict[str, Any]:
    """Of each part, how it came to its figures."""
    found: dict[str, Any] = json.loads(RAN.read_text()) if RAN.exists() else {}
    return found


def draw() -> str:
    """The page, of the figures that there are."""
    ran = ran_before()
    told = {part: json.loads(part.file.read_text()) for part in PARTS if part.name in ran}
    found = [(part.name, one) for part, figures in told.items() for one in part.read(figures)]
    marks = {True: "reached", False: "**not reached**", None: ""}
    lines = [
        HEAD
        + "\n".join(f"| {name} | {one.what} | {one.text} | {one.aim} | {marks[one.is_met]} |" for name, one in found)
    ]
    lines += ["", "## Not reached", ""]
    lines += [f"- {name}: {one.what}: {one.text}, aimed at {one.aim}" for name, one in found if one.is_met is False]
    lines += ["", "[RELAY.md](RELAY.md) and [ROUTING.md](ROUTING.md) say why, as far as it is known.", ""]
    for part, figures in told.items():
        if part.name in IN_FULL:
            lines += [*IN_FULL[part.name](figures), ""]
    return "\n".join([*lines, *how_they_ran(ran), ""])


def relay(told: Any) -> Iterator[str]:
    """Every party's own figures."""
    yield from ("## The relay", "")
    yield "CPU of the proxy for a streamed chunk and for a small request. From asking to a stream's first byte,"
    yield "and to the whole of a small answer, for so many clients at once."
    yield from (
        "",
        "| | µs a chunk | µs a request | first byte at 32, p50, p99 | at 512 | small at 32 | at 512 |",
        "|---" * 7 + "|",
    )
    for party, of in told["figures"].items():
        times = (
            f"{of[f'{what}_{clients}_p50_ms']:.2f}, {of[f'{what}_{clients}_p99_ms']:.2f} ms"
            for what in ("first", "request")
            for clients in (32, 512)
        )
        yield f"| {party} | {of['chunk_us']:.1f} | {of['request_us']:.1f} | {' | '.join(times)} |"
    yield ""
    yield "*Direct* has nobody in between: its CPU is the backend's. *Bare uvloop* passes bytes on and looks at none."


def routing(told: Any) -> Iterator[str]:
    """Every workload under every policy that matters, in virtual time."""
    yield from ("## Routing, in virtual time", "")
    yield "Seconds to the first token; loads of models; requests answered within their objective."
    yield from ("", "| workload | | p50 | p95 | p99 | loads | good |", "|---" * 7 + "|")
    policies = ("round_robin", "least_conn", "two_choices", "ollamad", "clairvoyant")
    for one in told["results"]:
        if one["policy"] in policies:
            name = one["workload"] if one["policy"] == policies[0] else ""
            times = " | ".join(f"{one[key]:#.3g}".rstrip(".") for key in ("p50_s", "p95_s", "p99_s"))
            yield f"| {name} | {one['policy']} | {times} | {one['loads']} | {100 * one['goodput']:.1f} % |"
    yield ""
    median, p99, load = (1e6 * told[key] for key in ("decide_median_s", "decide_p99_s", "decide_load_median_s"))
    yield f"`decide` on 16 children and 64 models: median {median:.0f} µs, p99 {p99:.0f} µs;"
    yield f"where a load has to be weighed {load:.0f} µs."


def live(told: Any) -> Iterator[str]:
    """Real proxies, simulated GPUs."""
    yield from ("## Routing, live", "")
    yield "Simulated Ollamas with a GPU's times behind real proxies, in turn; routing starts knowing nothing."
    yield "Seconds to the first token, as a GPU would take them."
    yield from ("", "| workload | | p50 | p95 | loads | requests | failed |", "|---" * 7 + "|")
    for workload in told:
        for one in workload["results"]:
            times = f"{one['ttft_p50_s']:.2f} | {one['ttft_p95_s']:.1f}"
            name = f"{workload['workload']}, {workload['rate_per_s']:g}/s"
            yield f"| {name} | {one['party']} | {times} | {one['loads']} | {one['requests']} | {one['failed']} |"


def soak(told: Any) -> Iterator[str]:
    """What each fleet went through."""
    yield from ("## The soak", "")
    for name, of in told["fleets"].items():
        ends = ", ".join(f"{how} {count:,}" for how, count in of["ends"].items())
        faults = ", ".join(f"{kind} {count}" for kind, count in of["faults_by_kind"].items())
        files, memory = (f"{of['before'][key]:,} → {of['after'][key]:,}" for key in ("open_files", "memory_bytes"))
        yield f"**{name} fleet**, seed {told['seed']}. Requests by how they ended: {ends}."
        yield f"Faults: {faults}."
        yield f"The rules were looked at {of['looks']:,} times; open files {files}; memory in bytes {memory};"
        yield f"the slowest `/healthz` took {of['healthz_slowest_ms']} ms. Its memory in MiB, minute by minute:"
        yield f"{' '.join(map(str, of['memory_mib_by_minute']))}."
        yield from (f"- violated: {what}" for what in of["violations"])
        yield ""


IN_FULL: Final[dict[str, Callable[[Any], Iterator[str]]]] = {
    "relay-compare": relay,
    "routing": routing,
    "live": live,
    "soak": soak,
}


def how_they_ran(ran: dict[str, Any]) -> Iterator[str]:
    """Of which commit the figures are, and of which machine."""
    yield from ("## The runs", "")
    yield from ("| part | commit | on | took |", "|---|---|---|---|")
    for part in PARTS:
        if told := ran.get(part.name):
            took = f"{told['took_s'] / 60:.1f} min" + (", quick" if told["quick"] else "")
            yield f"| {part.name} | {told['commit']} | {told['date']} | {took} |"
    yield ""
    yield from sorted({told["machine"] for told in ran.values()})
    yield "It is a virtual machine; the load, the peers and ollamad share its cores. Nothing else ran, but for the"
    yield "soak, which shared them with the tests."
