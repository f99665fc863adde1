"""A child's runners: the processes that it starts to serve its models, and that hold the VRAM."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from contextlib import suppress

import psutil


def kill_runners(members: Iterable[int], server: int, blob: str | None) -> tuple[int, ...]:
    """Kill the runners among these members of a child's group; gives who was killed.

    `blob` is the digest of the weights whose runner is meant: every version so far has their path among a runner's
    arguments. Where none has, which of them it is can't be told, and all are killed.
    """
    runners = [pid for pid in members if pid != server]
    meant = [pid for pid in runners if blob is not None and blob in _arguments(pid)] or runners
    for pid in meant:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return tuple(meant)


def cpu_s(members: Iterable[int]) -> float:
    """The time that these processes have had on a CPU, all together."""
    total = 0.0
    for pid in members:
        with suppress(psutil.NoSuchProcess):
            times = psutil.Process(pid).cpu_times()
            total += times.user + times.system
    return total


def _arguments(pid: int) -> str:
    try:
        return " ".join(psutil.Process(pid).cmdline())
    except psutil.Error:
        return ""
