"""`make bench-routing`: every policy on every workload, in virtual time; prints a table, writes JSON."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path

from bench.routing.baselines import BASELINES
from bench.routing.bound import relaxation_s
from bench.routing.run import Result, percentile, simulate
from bench.routing.speed import measure
from bench.routing.workloads import WORKLOADS, Workload, trace

BASE = "least_conn"
POLICIES = (*BASELINES, "ollamad sticky", "ollamad least_inflight", "ollamad", "clairvoyant")
BRIEF = ("round_robin", BASE, "two_choices", "hash_model", "ollamad", "clairvoyant")
HEAD = "  {:22} {:>8} {:>8} {:>8} {:>9} {:>7} {:>6} {:>6} {:>8} {:>8} {:>9}"
ROW = "  {:22} {:8.2f} {:8.2f} {:8.2f} {:9.0f} {:7d} {:6.1%} {:6d} {:>8} {:>8} {:>9}"


def main(arguments: Sequence[str]) -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench.routing", description=__doc__)
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help=f"of: {', '.join(WORKLOADS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="a fifth of the requests, and fewer policies")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, default=Path("bench/results/routing.json"), help="where to write figures")
    parser.add_argument("--jobs", type=int, default=1, help="processes at once")
    asked = parser.parse_args(arguments)
    if unknown := set(asked.workloads) - WORKLOADS.keys():
        parser.error(f"no such workload: {', '.join(sorted(unknown))}; there are {', '.join(WORKLOADS)}")
    began = time.perf_counter()
    results: list[Result] = []
    with ProcessPoolExecutor(asked.jobs) as pool:
        for workload in _chosen(asked.workloads, quick=asked.quick):
            policies = BRIEF if asked.quick else POLICIES
            found = [pool.submit(simulate, workload, policy, asked.seed) for policy in policies]
            rows = [one.result() for one in found]
            _show(workload, rows, relaxation_s(workload, trace(workload, asked.seed)))
            results += rows
    send_s, worst_s, other_s = measure(asked.seed)
    print(
        f"\ndecide, 16 children, 64 models: median {send_s * 1e6:.0f} us, p99 {worst_s * 1e6:.0f} us where a slot is"
        f" free; median {other_s * 1e6:.0f} us where a load must be weighed"
    )
    took_s = time.perf_counter() - began
    hours = sum(result.makespan_s * result.gpus for result in results) / 3600
    print(f"{hours:.0f} GPU-hours simulated in {took_s:.0f} s")
    asked.json.parent.mkdir(parents=True, exist_ok=True)
    speed = {"decide_median_s": send_s, "decide_p99_s": worst_s, "decide_load_median_s": other_s}
    text = json.dumps({"seed": asked.seed, **speed, "results": [asdict(result) for result in results]}, indent=1)
    asked.json.write_text(text.replace("NaN", "null"))


def _chosen(names: Sequence[str], *, quick: bool) -> Iterator[Workload]:
    for name in names or WORKLOADS:
        for workload in WORKLOADS[name]():
            yield workload.quick() if quick else workload


def _show(workload: Workload, rows: Sequence[Result], least: Sequence[float]) -> None:
    print(
        f"\n{workload.name}: {len(workload.models)} models, {workload.rate_per_s:g} requests/s,"
        f" good within {workload.objective_s:g} s  ({workload.source})"
    )
    print(
        HEAD.format("", "p50 s", "p95 s", "p99 s", "makespan", "loads", "good", "failed", "p50 vs", "p95 vs", "p95 vs")
    )
    print(HEAD.format("", "", "", "", "s", "", "", "", BASE[:8], BASE[:8], "clairv."))
    base = next(row for row in rows if row.policy == BASE)
    best = next(row for row in rows if row.policy == "clairvoyant")
    for row in rows:
        ratios = (_times(base.p50_s, row.p50_s), _times(base.p95_s, row.p95_s), _times(row.p95_s, best.p95_s))
        figures = (row.p50_s, row.p95_s, row.p99_s, row.makespan_s, row.loads, row.goodput, row.failed)
        print(ROW.format(row.policy, *figures, *ratios))
        if not math.isnan(row.embed_p95_s):
            print(f"  {'':22} embeddings: p95 {row.embed_p95_s:.2f} s from asking to answer")
    bound = (percentile(least, 0.5), percentile(least, 0.95), percentile(least, 0.99))
    print(
        "  {:22} {:8.2f} {:8.2f} {:8.2f}   nobody can be faster: alone on the fastest GPU".format("relaxation", *bound)
    )
    sys.stdout.flush()


def _times(more: float, less: float) -> str:
    return f"{more / less:.1f}x" if less else "-"


if __name__ == "__main__":
    main(sys.argv[1:])
