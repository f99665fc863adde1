"""Who may send what to whom: leases on children, taken in the same step as the decision and always given back."""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog

from ollamad.errors import CapacityError
from ollamad.fleet.bell import Bell
from ollamad.routing.decide import Decision, Request, decide
from ollamad.routing.snapshot import ChildView, Snapshot, StreamView

log = structlog.get_logger()

RETRY_AFTER_S = 5
"""What a refused client is told, while nothing better than a guess is known."""


@dataclass(slots=True, eq=False)
class Lease:
    """The right to send one request to one life of one child. Whoever streams says when the child is heard."""

    child: str
    life: int
    base_url: str
    waited_ms: int
    """From asking for the lease to having it."""
    model: str | None
    since_s: float
    heard_s: float | None = None
    held: bool = False
    """The client does not take what has come: nothing more is read from the child meanwhile."""
    longest_pause_s: float = 0.0
    """Between two pieces of the response."""

    def heard(self) -> None:
        """A piece of the response has come: the request makes progress."""
        now_s = time.monotonic()
        if self.heard_s is not None:
            self.longest_pause_s = max(self.longest_pause_s, now_s - self.heard_s)
        self.heard_s = now_s

    def hold(self, *, held: bool) -> None:
        """The client has stopped taking what comes, or takes it again; that is no silence of the child's."""
        self.held = held
        if not held and self.heard_s is not None:
            self.heard_s = time.monotonic()


class Dispatcher:
    """Gives leases. The counts of requests in flight are its own, and no one else's."""

    def __init__(self, changed: Bell, *, waiting_max: int, ready_wait_s: float) -> None:
        self._changed = changed
        self._waiting_max = waiting_max
        self._ready_wait_s = ready_wait_s
        self._open: defaultdict[str, dict[Lease, None]] = defaultdict(dict)
        self._waiting = 0

    def limit(self, *, waiting_max: int, ready_wait_s: float) -> None:
        """Go by other limits from now on; who waits already keeps its own."""
        self._waiting_max, self._ready_wait_s = waiting_max, ready_wait_s

    @property
    def waiting(self) -> int:
        """Requests that wait for a child to become ready."""
        return self._waiting

    def in_flight(self, child: str) -> int:
        """Requests that hold a lease on this child."""
        return len(self._open[child])

    def streams(self, child: str) -> tuple[StreamView, ...]:
        """The same, one by one, oldest first."""
        return tuple(StreamView(lease.model, lease.since_s, lease.heard_s, lease.held) for lease in self._open[child])

    @property
    def total_in_flight(self) -> int:
        """Requests that hold a lease on any child."""
        return sum(map(len, self._open.values()))

    @asynccontextmanager
    async def lease(self, request: Request, look: Callable[[], Snapshot], *, wait: bool = True) -> AsyncIterator[Lease]:
        """A lease for this request, given back when the block is left, however it is left.

        Where no child can take it now it waits for one, unless `wait` is False. Raises CapacityError.
        """
        asked_s = time.monotonic()
        decision, snapshot = await self._decided(request, look, wait=wait)
        chosen = next(child for child in snapshot.children if child.id == decision.child)
        now_s = time.monotonic()
        waited_ms = round((now_s - asked_s) * 1000)
        lease = Lease(
            chosen.id, chosen.life, f"http://127.0.0.1:{chosen.port}", waited_ms, model=request.model, since_s=now_s
        )
        self._open[chosen.id][lease] = None  # no await since the decision: a burst spreads
        log.debug("routed", child=chosen.id, model=request.model, rejected=decision.rejected, waited_ms=waited_ms)
        try:
            yield lease
        finally:
            del self._open[chosen.id][lease]
            self._changed.ring()

    async def _decided(
        self, request: Request, look: Callable[[], Snapshot], *, wait: bool
    ) -> tuple[Decision, Snapshot]:
        deadline_s = time.monotonic() + (self._ready_wait_s if wait else 0.0)
        while True:
            snapshot = look()
            if snapshot.stopping:
                raise CapacityError("ollamad is stopping; try again when it is back", RETRY_AFTER_S)
            decision = decide(request, snapshot, random.random())  # noqa: S311 - no secret
            if decision.child is not None:
                return decision, snapshot
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                raise CapacityError(f"no child can take this request now ({_states(snapshot)})", RETRY_AFTER_S)
            if self._waiting >= self._waiting_max:
                raise CapacityError(
                    f"{self._waiting} requests wait for a child already; try again later", RETRY_AFTER_S
                )
            await self._wait(left_s)

    async def _wait(self, left_s: float) -> None:
        self._waiting += 1
        try:
            await self._changed.heard(left_s)
        finally:
            self._waiting -= 1


def _states(snapshot: Snapshot) -> str:
    return ", ".join(f"{child.id} {_state(child)}" for child in snapshot.children) or "there is no child"


def _state(child: ChildView) -> str:
    return f"{child.phase.value}: {child.reason}" if child.reason and not child.routable else child.phase.value
