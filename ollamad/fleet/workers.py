"""A few threads for what blocks: reading, linking, copying and hashing in stores."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Final, ParamSpec, TypeVar

from ollamad.store.ways import Effort

P = ParamSpec("P")
T = TypeVar("T")

TELL_S: Final = 0.25


def _not_told(_effort: Effort) -> None:
    """What becomes of progress that nobody wants to know."""


class Workers:
    """Runs functions in a bounded number of threads, and says what they copy."""

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="store")
        self._efforts: dict[int, Effort] = {}

    @property
    def copying(self) -> tuple[Effort, ...]:
        """What is being copied now."""
        return tuple(effort for effort in self._efforts.values() if effort.total_bytes)

    async def do(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run it in a thread. Cancelled, the thread still goes on to its end."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, lambda: function(*args, **kwargs))

    @asynccontextmanager
    async def effort(self, tell: Callable[[Effort], None] = _not_told) -> AsyncIterator[Effort]:
        """For work that takes long: `tell` hears of it while the block runs, and leaving the block stops it."""
        effort = Effort()
        self._efforts[id(effort)] = effort
        try:
            async with asyncio.TaskGroup() as tasks:
                telling = tasks.create_task(_keep_telling(effort, tell))
                try:
                    yield effort
                finally:
                    effort.stopped.set()
                    del self._efforts[id(effort)]
                    telling.cancel()
        except BaseExceptionGroup as group:  # the caller knows the one error that it is, not groups of one
            raise group.exceptions[0] from None

    def stop(self) -> None:
        """Stop what takes long at its next step."""
        for effort in self._efforts.values():
            effort.stopped.set()

    def close(self) -> None:
        """Wait for what runs, and start nothing more."""
        self.stop()
        self._pool.shutdown(wait=True, cancel_futures=True)


async def _keep_telling(effort: Effort, tell: Callable[[Effort], None]) -> None:
    while True:
        await asyncio.sleep(TELL_S)
        if effort.total_bytes:
            tell(effort)
