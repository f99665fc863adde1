"""What a driver would know of simulated servers: the other end of the folder that `sim/driver.py` describes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import psutil

STALE_S: Final = 1.5
"""A server that has told nothing for this long works on nothing: it is stopped, or stuck."""


class Report(msgspec.Struct, frozen=True):
    """One server's file."""

    pid: int
    child: str
    port: int
    devices: tuple[str, ...]
    runners: tuple[tuple[int, int], ...]
    """Of each its pid, and its VRAM in bytes over all devices."""
    streams: int
    loading: bool


@dataclass(frozen=True, slots=True)
class Occupant:
    """A runner on one GPU."""

    pid: int
    used_bytes: int


@dataclass(frozen=True, slots=True)
class Use:
    """What goes on on one GPU."""

    occupants: tuple[Occupant, ...] = ()
    streams: int = 0
    loading: bool = False


@dataclass(frozen=True, slots=True)
class DriverFolder:
    """The driver's side of the folder. It reads files of a few hundred bytes; for any thread."""

    path: Path

    def servers(self) -> tuple[Report, ...]:
        """Every server that lives."""
        return tuple(report for report, _ in self._reports() if _lives(report.pid))

    def use(self, uuid: str) -> Use:
        """What goes on on a GPU. A runner has its memory until it is dead itself, whatever became of its server."""
        occupants: list[Occupant] = []
        streams, loading = 0, False
        for report, fresh in self._reports():
            if uuid not in report.devices:
                continue
            share = len(report.devices)
            occupants += [Occupant(pid, size // share) for pid, size in report.runners if _lives(pid)]
            if fresh and _lives(report.pid):
                streams, loading = streams + report.streams, loading or report.loading
        return Use(tuple(occupants), streams, loading)

    def tell_foreign(self, uuid: str, size_bytes: int) -> None:
        """Let the servers know what others have on a GPU."""
        self._put(f"{uuid}.foreign", str(size_bytes), there=size_bytes > 0)

    def tell_crash(self, child: str, *, crash: bool) -> None:
        """Let a child's servers exit as soon as they start."""
        self._put(f"{child}.crash", "", there=crash)

    def sweep(self) -> None:
        """Remove the files of servers that are dead with all their runners."""
        for report, _ in self._reports():
            if not any(map(_lives, (report.pid, *(pid for pid, _ in report.runners)))):
                (self.path / f"{report.pid}.json").unlink(missing_ok=True)

    def _put(self, name: str, text: str, *, there: bool) -> None:
        if there:
            (self.path / name).write_text(text)
        else:
            (self.path / name).unlink(missing_ok=True)

    def _reports(self) -> Iterator[tuple[Report, bool]]:
        """Every file, and whether it is fresh."""
        wall_s = time.clock_gettime(time.CLOCK_REALTIME)
        for file in sorted(self.path.glob("*.json")):
            with suppress(OSError, msgspec.DecodeError):  # gone meanwhile
                fresh = wall_s - file.stat().st_mtime < STALE_S
                yield msgspec.json.decode(file.read_bytes(), type=Report), fresh


def _lives(pid: int) -> bool:
    """Whether a process holds what it holds; a zombie holds nothing."""
    try:
        os.kill(pid, 0)
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except (ProcessLookupError, psutil.NoSuchProcess):
        return False
