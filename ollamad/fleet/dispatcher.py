"""Who may send what to whom: leases on children, taken in the same step as the decision and always given back.

What needs a slot waits in `line.py`. What needs none (the store, a list of models, a model that runs elsewhere) waits
for nothing but a child that is ready.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from types import TracebackType

from ollamad.fleet.bell import Bell
from ollamad.fleet.lease import Lease, Limits
from ollamad.fleet.ledger import Ledger
from ollamad.fleet.line import Line, Loads, Surroundings
from ollamad.fleet.refusals import RETRY_AFTER_S, full, nobody, refuse_while_stopping
from ollamad.routing.decide import Key, Need, Request, decide
from ollamad.routing.memory import Memory, Policy
from ollamad.routing.snapshot import Snapshot, StreamView

__all__ = ["Dispatcher", "Lease", "Limits", "Loads"]


def _nobody_is_told(_lease: Lease) -> None:
    pass


class Dispatcher:
    """Gives leases. `given` is told of each, and `returned` when it comes back."""

    def __init__(
        self,
        changed: Bell,
        memory: Memory,
        look: Callable[[], Snapshot],
        limits: Limits,
        loads: Loads,
        given: Callable[[Lease], None] = _nobody_is_told,
        returned: Callable[[Lease], None] = _nobody_is_told,
    ) -> None:
        self._changed = changed
        self._memory = memory
        self._look = look
        self._limits = limits
        self._ledger = Ledger(changed, memory, given, returned)
        around = Surroundings(changed, look, lambda: self._limits, lambda: self.waiting)
        self._line = Line(memory, self._ledger, loads, around)
        self._unready = 0
        self.emptied = self._ledger.emptied
        """Rung when a child's last lease comes back."""

    def limit(self, limits: Limits) -> None:
        """Go by other limits from now on."""
        self._limits = limits

    @property
    def waiting(self) -> int:
        """Requests that wait for a slot, or for a child to become ready."""
        return len(self._line) + self._unready

    def in_flight(self, child: str) -> int:
        """Requests that hold a lease on this child."""
        return self._ledger.in_flight(child)

    def streams(self, child: str) -> tuple[StreamView, ...]:
        """The same, one by one, oldest first."""
        return self._ledger.streams(child)

    def busy(self, child: str) -> Mapping[str, int]:
        """The same, counted by model; never changed once it is given."""
        return self._ledger.busy(child)

    def move_waiting(self, child: str, life: int, why: str) -> int:
        """Send elsewhere what this life has not begun to answer, as far as others take it; gives how many those are."""
        return self._ledger.move_waiting(child, life, why)

    @property
    def total_in_flight(self) -> int:
        """Requests that hold a lease on any child."""
        return self._ledger.total

    async def run(self) -> None:
        """Look after those in line until cancelled."""
        await self._line.run()

    def lease(self, request: Request, *, wait: bool = True) -> AbstractAsyncContextManager[Lease]:
        """A lease for this request, given back when the block is left, however it is left.

        It waits for a slot; and for a child to become ready where none is, unless `wait` is False. Entering it raises
        CapacityError.
        """
        return _Leasing(self, request, wait=wait)

    async def take(self, request: Request, *, wait: bool) -> Lease:
        """A lease that must be given back; `lease` sees to that."""
        key = request.key
        now_s = time.monotonic()
        if request.need is Need.RUNNER and not request.tried:
            self._memory.arrived(request, now_s)
        if key is None or request.need is not Need.RUNNER or not self._waits_for_slots(key, now_s):
            return await self._without_slot(request, now_s, wait=wait)
        return await self._line.lease(request, key, now_s, wait=wait)

    def give_back(self, lease: Lease) -> None:
        """The end of a lease."""
        self._ledger.close(lease)

    def _waits_for_slots(self, key: Key, now_s: float) -> bool:
        return self._memory.rules.policy is Policy.COST and not self._memory.is_refused(key, now_s)

    async def _without_slot(self, request: Request, asked_s: float, *, wait: bool) -> Lease:
        deadline_s = asked_s + (self._limits.ready_wait_s if wait else 0.0)
        while True:
            snapshot = self._look()
            refuse_while_stopping(snapshot)
            decision = decide(request, snapshot, self._memory, random.random())  # noqa: S311 - no secret
            if decision.child is not None:
                return self._ledger.open(request, decision, snapshot, asked_s)
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                raise nobody(snapshot)
            if self.waiting >= self._limits.waiting_max:
                raise full(self._limits, RETRY_AFTER_S)
            self._unready += 1
            try:
                await self._changed.heard(left_s)
            finally:
                self._unready -= 1


class _Leasing(AbstractAsyncContextManager[Lease]):
    """A class, not a generator: every request has one, and a generator's would cost 2 µs more."""

    __slots__ = ("_dispatcher", "_lease", "_request", "_wait")

    def __init__(self, dispatcher: Dispatcher, request: Request, *, wait: bool) -> None:
        self._dispatcher = dispatcher
        self._request = request
        self._wait = wait
        self._lease: Lease | None = None

    async def __aenter__(self) -> Lease:
        self._lease = await self._dispatcher.take(self._request, wait=self._wait)
        return self._lease

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lease is not None:
            self._dispatcher.give_back(self._lease)
