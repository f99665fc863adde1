"""The warden: a small process that outlives ollamad by a moment, to end what a SIGKILLed ollamad left behind.

It waits for the end of its standard input, a pipe whose other end only ollamad holds: the kernel closes it however
ollamad dies. Then it kills every process that carries this run's mark in its environment; children and runners
inherit it, so a child that was being started in that instant is found too. After a clean stop it finds nothing and
leaves.

It runs alone (`python -I -S warden.py INSTANCE`), with the standard library only: it must be small, and work when all
else fails.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

MARK = "OLLAMAD_INSTANCE"
"""The variable that marks every process which one run of ollamad starts."""
PATIENCE_S = 10.0
PAUSE_S = 0.02


def marked(instance: str) -> list[int]:
    """The processes of this user that carry the mark. Zombies have no environment and are not among them."""
    wanted = f"{MARK}={instance}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            variables = (entry / "environ").read_bytes().split(b"\0")
        except OSError:  # gone by now, or another user's: neither is ours
            continue
        if wanted in variables:
            found.append(int(entry.name))
    return found


def kill_all(instance: str) -> int:
    """Kill until none is left, or patience is over. Gives how many are left."""
    deadline_s = time.monotonic() + PATIENCE_S
    while (pids := marked(instance)) and time.monotonic() < deadline_s:
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(PAUSE_S)
    return len(pids)


def main() -> int:
    """Wait for ollamad's end, then clean up."""
    while os.read(0, 1):
        pass
    return 1 if kill_all(sys.argv[1]) else 0


if __name__ == "__main__":
    sys.exit(main())
