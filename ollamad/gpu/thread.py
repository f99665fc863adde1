"""The one thread that talks to the driver.

A call into the driver can block for good, on a lost GPU above all, and nothing can end it. So the event loop never
makes one: it asks this thread, and waits until a deadline. While a call is overdue nothing more is asked, so that
neither threads nor requests pile up behind it; should it return after all, its answer is dropped as stale, and the
driver is asked again.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from ollamad.errors import GpuError, GpuSilent
from ollamad.gpu.model import GpuProvider, Inventory, Sample
from ollamad.supervision.gpu_health import GpuEvent

T = TypeVar("T")

EVENTS_KEPT: Final = 1024
"""Events that nobody has taken yet; of more the oldest go."""


@dataclass(slots=True, eq=False)
class _Call(Generic[T]):
    """One call of the provider, on its way through the thread."""

    work: Callable[[], T]
    loop: asyncio.AbstractEventLoop
    deadline_s: float
    """On the loop's clock."""
    outcome: Future[T] = field(default_factory=Future)
    """Written by the thread before `returned` is set; read on the loop after."""
    returned: asyncio.Event = field(default_factory=asyncio.Event)

    def make(self) -> None:
        """Make the call, in the thread. Never raises: what the provider raises belongs to whoever asked."""
        try:
            self.outcome.set_result(self.work())
        except Exception as error:  # noqa: BLE001 - passed on, whatever it is
            self.outcome.set_exception(error)
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self.loop.call_soon_threadsafe(self.returned.set)


class GpuThread:
    """Owns a provider, and makes each of its calls in one daemon thread. For use from one event loop."""

    def __init__(self, provider: GpuProvider, timeout_s: float = 5.0) -> None:
        self._provider = provider
        self._timeout_s = timeout_s
        self._turn = asyncio.Lock()
        self._latest: _Call[Any] | None = None
        self._calls: queue.SimpleQueue[_Call[Any] | None] = queue.SimpleQueue()
        self._closed = False
        self._events: deque[GpuEvent] = deque(maxlen=EVENTS_KEPT)
        # A daemon thread, since a process must be able to exit while the driver hangs.
        threading.Thread(target=self._serve, name="gpu", daemon=True).start()

    async def discover(self) -> Inventory:
        """Find every GPU that is there now; may be called again at any time, and sampling goes on after it.

        Raises GpuError: the provider's own, or GpuSilent when the driver does not answer in time.
        """
        return await self._ask(self._provider.discover)

    async def sample(self, uuids: tuple[str, ...]) -> tuple[Sample, ...]:
        """Read each of these GPUs once. Raises GpuError: the provider's own, or GpuSilent when no answer is in time."""

        def read() -> tuple[Sample, ...]:
            self._events.extend(self._provider.events())
            return self._provider.sample(uuids)

        return await self._ask(read)

    def take_events(self) -> tuple[GpuEvent, ...]:
        """What the driver has reported, oldest first, each event once; it is asked with every sample.

        An answer that comes too late is dropped, its events are not: an Xid is what often comes before the silence.
        """
        events: list[GpuEvent] = []
        while self._events:
            events.append(self._events.popleft())
        return tuple(events)

    def close(self) -> None:
        """Let go of the driver once the call in progress returns, and end the thread. Waits for neither."""
        if not self._closed:
            self._closed = True
            self._calls.put(None)

    async def _ask(self, work: Callable[[], T]) -> T:
        async with self._turn:
            await self._idle()
            if self._closed:
                raise GpuError("the GPUs can't be asked any more: their thread is closed")
            loop = asyncio.get_running_loop()
            call = _Call(work, loop, deadline_s=loop.time() + self._timeout_s)
            self._latest = call
            self._calls.put(call)
            await self._idle()
            return call.outcome.result()

    async def _idle(self) -> None:
        """Wait until the latest call has returned, whoever made it. Raises GpuSilent at its deadline, at once if later.

        The text stays the same however long it takes: whoever reports a fault when it changes reports it once.
        """
        if self._latest is None:
            return
        try:
            async with asyncio.timeout_at(self._latest.deadline_s):
                await self._latest.returned.wait()
        except TimeoutError:
            raise GpuSilent(
                f"the GPU driver has not answered for {self._timeout_s:g} s; it is asked again once it does"
                " (a lost GPU can hang it: see the kernel's log)",
                self._provider.busy_with,
            ) from None

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None:
            call.make()
        self._provider.close()
