"""The clock that a simulated server lives by, so that another may be put in its place."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """Something that will happen, unless it is cancelled."""

    def cancel(self) -> None:
        """Let it not happen."""


class Clock(Protocol):
    """Tells the time and lets it pass."""

    def now_s(self) -> float:
        """Seconds since some beginning; never goes back."""

    async def sleep(self, length_s: float) -> None:
        """Let so much time pass."""

    def call_later(self, length_s: float, act: Callable[[], None]) -> Timer:
        """Do something when so much time has passed."""


class LoopClock:
    """The running event loop's own."""

    def now_s(self) -> float:
        """See Clock."""
        return time.monotonic()

    async def sleep(self, length_s: float) -> None:
        """See Clock."""
        await asyncio.sleep(max(0.0, length_s))

    def call_later(self, length_s: float, act: Callable[[], None]) -> Timer:
        """See Clock."""
        return asyncio.get_running_loop().call_later(length_s, act)
