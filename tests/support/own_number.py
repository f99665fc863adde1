"""A number to tell this test process from others by, in what the machine has only once: ports, names of namespaces."""

from __future__ import annotations

import os
from pathlib import Path


def own_number() -> int:
    """One that no other test process of this machine has now: several may be the first of their PID namespaces."""
    return Path("/proc/self/ns/pid").stat().st_ino + os.getpid()
