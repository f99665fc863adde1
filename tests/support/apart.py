"""A server on an event loop of its own, in a thread: for tests that ask it without one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import TypeVar

Served = TypeVar("Served")


@contextmanager
def apart(serving: AbstractAsyncContextManager[Served]) -> Iterator[Served]:
    """What an async context manager gives, held open until the block ends."""
    ready = threading.Event()
    found: list[Served] = []
    stops: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        stop = asyncio.Event()
        stops.append((asyncio.get_running_loop(), stop))
        async with serving as served:
            found.append(served)
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),), name="apart")
    thread.start()
    try:
        assert ready.wait(30)
        yield found[0]
    finally:
        loop, stop = stops[0]
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)
