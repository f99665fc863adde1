"""Signals to the process, as something to wait for."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from types import TracebackType
from typing import Self


class Signals:
    """Minds some signals while its block lasts; each that comes is heard once, by whoever waits next.

    With `deaf_after` they are ignored from then on: what is left is the end of the process, which one too many would
    turn into a death by signal.
    """

    def __init__(self, *numbers: signal.Signals, deaf_after: bool = False) -> None:
        self._numbers = numbers
        self._deaf_after = deaf_after
        self._came = asyncio.Event()

    def __enter__(self) -> Self:
        """Mind them."""
        for number in self._numbers:
            asyncio.get_running_loop().add_signal_handler(number, self._came.set)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Mind them no more."""
        for number in self._numbers:
            asyncio.get_running_loop().remove_signal_handler(number)
            if self._deaf_after:
                signal.signal(number, signal.SIG_IGN)

    async def heard(self, timeout_s: float | None) -> bool:
        """Wait for the next one; False when `timeout_s` passed first, which None never does."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._came.wait()
        except TimeoutError:
            return False
        self._came.clear()
        return True

    async def heard_before(self, work: Coroutine[object, object, bool]) -> bool | None:
        """Wait for some work, but only until the next signal; gives what came of it, None where that cut it short."""
        async with asyncio.TaskGroup() as tasks:
            going = tasks.create_task(work)
            hurried = tasks.create_task(self.heard(None))
            await asyncio.wait({going, hurried}, return_when=asyncio.FIRST_COMPLETED)
            done = going.result() if going.done() else None
            going.cancel()
            hurried.cancel()
        return done
