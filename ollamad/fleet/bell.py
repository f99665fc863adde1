"""A bell that many may wait for: something has changed, look again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


class Bell:
    """Wakes all who wait at the moment it rings; rung with nobody waiting, it is forgotten."""

    def __init__(self) -> None:
        self._waiters: set[asyncio.Future[None]] = set()

    def ring(self) -> None:
        """Wake everyone."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def heard(self, timeout_s: float | None) -> bool:
        """Wait for the next ring; False when `timeout_s` passed first, which None never does."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            if timeout_s is None:
                await waiter
                return True
            async with asyncio.timeout(timeout_s):
                await waiter
        except TimeoutError:
            return False
        finally:
            self._waiters.discard(waiter)
        return True

    async def until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until something is so of which each change rings; False when it is not after `timeout_s`."""
        deadline_s = time.monotonic() + timeout_s
        while not condition():
            if not await self.heard(max(0.0, deadline_s - time.monotonic())):
                return condition()
        return True
