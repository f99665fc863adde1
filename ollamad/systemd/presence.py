"""How we stand, told to systemd again and again: READY, STATUS, the watchdog, reloads, and the way to the end.

READY is said once a child takes requests, or when `service.ready_wait_s` is over: the listener is up before that, and
who comes early waits. The watchdog is fed from the event loop, and only while nothing in the fleet has stood still: a
process that lives and does nothing is ended by systemd and started again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Final

import structlog

from ollamad.systemd.notify import USEC, Manager

log = structlog.get_logger()

BEAT_S: Final = 1.0
"""How often it is told how we stand, at most; STATUS= only when it has changed."""
STARTING_BEAT_S: Final = 0.1
"""The same while we start: whoever waits for READY should not wait longer than it takes."""
BEATS_IN_WATCHDOG: Final = 4
"""The watchdog is fed so often in its time: some beats may be late, or lost."""
MORE_TIME: Final = str(15 * USEC)
"""While we start or stop, systemd is asked for so much more time with each beat; a stopped loop asks no more."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What is true now."""

    children: int
    ready: int
    """Children that requests may be sent to."""
    streams: int
    """Requests that a child has."""
    waiting: int = 0
    still: tuple[str, ...] = ()
    """What should have moved and has not."""

    def __str__(self) -> str:
        waiting = f", {self.waiting} waiting" if self.waiting else ""
        plural = "" if self.streams == 1 else "s"
        return f"{self.ready} of {self.children} children ready, {self.streams} stream{plural}{waiting}"


class Stage(Enum):
    """Where we are in our life."""

    STARTING = "starting"
    RUNNING = "running"
    RELOADING = "reloading"
    STOPPING = "stopping"


class Presence:
    """Tells one manager. What it says depends on what it is told and on the time, which are arguments."""

    def __init__(self, manager: Manager, ready_wait_s: float) -> None:
        self._manager = manager
        self._ready_wait_s = ready_wait_s
        self._since_s: float | None = None
        """When it was first asked to tell."""
        self._stage = Stage.STARTING
        self._said = ""
        self._still: tuple[str, ...] = ()
        self._refused = False
        """Whether the last configuration could not be used."""

    @property
    def beat_s(self) -> float:
        """How often `tell` wants to be called."""
        if self._stage is Stage.STARTING:
            return STARTING_BEAT_S
        watchdog_s = self._manager.watchdog_s
        return BEAT_S if watchdog_s is None else min(BEAT_S, watchdog_s / BEATS_IN_WATCHDOG)

    async def run(self, look: Callable[[float], Standing]) -> None:
        """Tell how we stand until cancelled; `look` is given the time, on the monotonic clock."""
        while True:
            now_s = time.monotonic()
            self.tell(look(now_s), now_s)
            await asyncio.sleep(self.beat_s)

    def tell(self, standing: Standing, now_s: float) -> None:
        """Say what there is to say now."""
        state: dict[str, str] = {}
        self._since_s = now_s if self._since_s is None else self._since_s
        is_up = standing.ready > 0 or now_s - self._since_s >= self._ready_wait_s
        if self._stage is Stage.STARTING and is_up:
            self._stage = Stage.RUNNING
            state["READY"] = "1"
        if self._stage in {Stage.STARTING, Stage.STOPPING}:
            state["EXTEND_TIMEOUT_USEC"] = MORE_TIME
        if self._manager.watchdog_s is not None and self._moves(standing):
            state["WATCHDOG"] = "1"
        status = self._status(standing)
        if status != self._said:
            state["STATUS"] = self._said = status
        if state:
            self._manager.send(state)

    def stops(self) -> None:
        """We were told to stop: it may take as long as the streams that we let finish."""
        self._stage = Stage.STOPPING
        self._manager.send({"STOPPING": "1", "EXTEND_TIMEOUT_USEC": MORE_TIME})

    def reloaded(self) -> None:
        """A new configuration is in force; the children may still follow, one by one."""
        self._refused = False
        self._back()

    @contextmanager
    def reloading(self) -> Iterator[None]:
        """While a configuration is read. Over at `reloaded`; one that fails before that was refused."""
        ours = self._stage is Stage.RUNNING
        if ours:
            self._stage = Stage.RELOADING
            self._refused = True
            self._manager.send({"RELOADING": "1", "MONOTONIC_USEC": str(time.monotonic_ns() // 1000)})
        try:
            yield
        finally:
            if ours:
                self._back()

    def _back(self) -> None:
        if self._stage is Stage.RELOADING:
            self._stage = Stage.RUNNING
            self._manager.send({"READY": "1"})

    def _moves(self, standing: Standing) -> bool:
        if standing.still != self._still:
            self._still = standing.still
            if standing.still:
                log.error("watchdog not fed", still=list(standing.still), ends_in_s=self._manager.watchdog_s)
            else:
                log.warning("watchdog fed again")
        return not standing.still

    def _status(self, standing: Standing) -> str:
        before = "" if self._stage is Stage.RUNNING else f"{self._stage.value}: "
        after = "; the new configuration was refused, the log says why" if self._refused and not before else ""
        return f"{before}{standing}{after}"
