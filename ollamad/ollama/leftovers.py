"""Processes that an earlier ollamad left behind, where neither it nor its warden could end them: found, and ended.

A run's mark, in the environment of all that it starts, says who that ollamad was: its PID namespace, its number, and
the tick at which it started. If no such process lives any more, what carries the mark is a leftover. A name proves
nothing, and a mark that can't be read, or is of another container, is left alone.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ollamad.ollama.environment import CHILD_VARIABLE
from ollamad.ollama.warden import MARK

_FORM: Final = re.compile(r"(\d+)-(\d+)-(\d+)-[0-9a-f]+")
_PAUSE_S: Final = 0.02
_PROC: Final = Path("/proc")


@dataclass(frozen=True, slots=True)
class Leftover:
    """A process whose ollamad is dead."""

    pid: int
    child: str
    """Which child it was, or belonged to."""


def own_mark() -> str:
    """A mark for this run of this process, unlike any other."""
    return f"{_namespace('self')}-{os.getpid()}-{_started('self')}-{secrets.token_hex(8)}"


def leftovers() -> tuple[Leftover, ...]:
    """All of this user's leftovers that can be seen."""
    candidates = (_leftover(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit())
    return tuple(candidate for candidate in candidates if candidate)


async def end_leftovers(patience_s: float) -> tuple[Leftover, ...]:
    """Kill all leftovers, wait until they are gone or patience is over; gives those that were found first."""
    first = left = leftovers()
    deadline_s = time.monotonic() + patience_s
    while left and time.monotonic() < deadline_s:
        for leftover in left:
            try:
                os.kill(leftover.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        await asyncio.sleep(_PAUSE_S)
        left = leftovers()
    return first


def _leftover(pid: str) -> Leftover | None:
    try:
        text = (_PROC / pid / "environ").read_bytes().decode("utf-8", "replace")
        variables = dict(entry.split("=", 1) for entry in text.split("\0") if "=" in entry)
        mark = _FORM.fullmatch(variables.get(MARK, ""))
        here = _namespace("self")
        if mark is None or mark[1] != here or _namespace(pid) != here or _lives(mark[2], mark[3]):
            return None
    except OSError:  # gone by now, or another user's
        return None
    return Leftover(int(pid), variables.get(CHILD_VARIABLE, ""))


def _lives(pid: str, started: str) -> bool:
    """Whether the process of this number is still the one that started then, and no zombie that nobody reaps."""
    try:
        return _started(pid) == started and _stat(pid)[0] not in {"Z", "X"}
    except OSError:
        return False


def _started(pid: str) -> str:
    """The tick since boot at which a process started."""
    return _stat(pid)[19]


def _stat(pid: str) -> list[str]:
    """The fields of proc(5)'s stat from the third on, the state; the second, the name, may hold anything."""
    return (_PROC / pid / "stat").read_text().rpartition(")")[2].split()


def _namespace(pid: str) -> str:
    return re.sub(r"\D", "", str((_PROC / pid / "ns" / "pid").readlink()))
