"""What the dashboard shows, told to all who have it open: one snapshot, rendered once a tick, sent to each as it is.

A viewer is sent the past first, then a look a tick. One that is too slow misses looks and holds nobody up.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

import msgspec

from ollamad.config.schema import Status
from ollamad.fleet.bell import Bell
from ollamad.fleet.tallies import Tallies
from ollamad.routing.snapshot import Snapshot
from ollamad.status import recent
from ollamad.status.history import History
from ollamad.status.view import status


class Board:
    """Renders while somebody looks; keeps the history always."""

    def __init__(self, look: Callable[[], Snapshot], tallies: Tallies, settings: Status) -> None:
        self._look = look
        self._tallies = tallies
        self._settings = settings
        self._history = History(history_s=settings.history_s, interval_s=settings.refresh_interval_s)
        self._ticked = Bell()
        self._closed = False
        self._viewers = 0
        self._last = b""
        """The last look, rendered."""

    @property
    def is_full(self) -> bool:
        """Whether as many look as may."""
        return self._viewers >= self._settings.viewers_max

    async def run(self) -> None:
        """Tick until cancelled."""
        while True:
            self.tick()
            await asyncio.sleep(self._settings.refresh_interval_s)

    def close(self) -> None:
        """Send everyone home."""
        self._closed = True
        self._ticked.ring()

    async def follow(self) -> AsyncGenerator[bytes]:
        """Server-sent events for one viewer, until the board is closed."""
        self._viewers += 1
        try:
            yield self._past()
            yield self._look_of(self._look(), {})
            while not self._closed:
                await self._ticked.heard(None)
                yield self._last
        finally:
            self._viewers -= 1

    def tick(self) -> None:
        """Take one more point of the past, and tell everyone what is now."""
        snapshot = self._look()
        point = self._history.take(snapshot)
        self._last = self._look_of(snapshot, point) if self._viewers else b""
        self._ticked.ring()

    def _past(self) -> bytes:
        past = {
            "utilization": self._history.all(),
            "points": self._history.points,
            "interval_s": self._settings.refresh_interval_s,
        }
        return b"retry: 1000\n" + _event("past", past)

    def _look_of(self, snapshot: Snapshot, point: dict[str, int | None]) -> bytes:
        now_s = snapshot.taken_at_s
        look = {
            "status": status(snapshot),
            "utilization": point,
            "requests": recent.requests(self._tallies, now_s),
            "events": recent.events(self._tallies, now_s),
        }
        return _event("look", look)


def _event(name: str, data: dict[str, Any]) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + msgspec.json.encode(data) + b"\n\n"
