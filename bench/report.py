"""Every benchmark in one run, and docs/BENCHMARKS.md of what they found.

`make bench [ARGS="--quick --only relay"]`. Each part runs by itself, one after the other, and leaves its figures in
bench/results/, and in ran.json beside them how it came to them. `--draw` draws the page without running anything; a
test holds that it is what the figures say.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from bench.findings import PARTS, RESULTS, Part
from bench.page import RAN, draw, ran_before

ROOT: Final = Path(__file__).parents[1]
PAGE: Final = ROOT / "docs" / "BENCHMARKS.md"


def run(part: Part, *, quick: bool) -> bool:
    """Run one, its output as it comes; gives whether it ended well."""
    print(f"\n=== {part.name}", flush=True)
    more = part.quick if quick else part.full
    command = [sys.executable, "-m", part.module, *more, "--json", str(part.file)]
    began_s = time.monotonic()
    ended_well = subprocess.run(command, cwd=ROOT, check=False).returncode == 0
    if ended_well:
        ran = ran_before()
        ran[part.name] = {
            "commit": commit(),
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
            "took_s": round(time.monotonic() - began_s),
            "quick": quick,
            "machine": machine(),
        }
        RAN.write_text(json.dumps(ran, indent=2) + "\n")
    return ended_well


def commit() -> str:
    """What was measured; with a plus where the tree held more than that."""
    told = [
        subprocess.run(["git", *words], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()
        for words in (("rev-parse", "--short=7", "HEAD"), ("status", "--porcelain", "--", "ollamad"))
    ]
    return told[0] + ("+" if told[1] else "")


def machine() -> str:
    """What it runs on."""
    info = Path("/proc/cpuinfo").read_text()
    model = next((line.partition(": ")[2] for line in info.splitlines() if line.startswith("model name")), "unknown")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    python = platform.python_version()
    return f"{os.cpu_count()} cores of {model}, {memory:.0f} GiB, Linux {platform.release()}, Python {python}."


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
