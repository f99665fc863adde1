"""Who may send what to whom: leases on children, taken in the same step as the decision and always given back.

What needs a slot waits here until one frees (`routing.admission`), and is bound to a child only then. What needs none
(the store, a list of models, a model that runs elsewhere) waits for nothing but a child that is ready.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final, Protocol

import structlog

from ollamad.errors import CapacityError, TurnedAway
from ollamad.fleet.bell import Bell
from ollamad.fleet.lease import Lease, Limits
from ollamad.log import tells_debug
from ollamad.routing.admission import Admission, Load, Send, retry_after_s
from ollamad.routing.decide import Decision, Key, Need, Request, Verdict, decide
from ollamad.routing.fair import Ticket
from ollamad.routing.memory import Memory, Policy
from ollamad.routing.snapshot import ChildView, Snapshot, StreamView

__all__ = ["Dispatcher", "Lease", "Limits", "Loads"]

log = structlog.get_logger()

RETRY_AFTER_S: Final = 5
"""What a refused client is told where nothing better than a guess is known: how long a child takes to start."""
NONE: Final[Mapping[str, int]] = {}
TICK_S: Final = 0.25
"""How often those in line are looked at although nothing has happened: their patience with a load grows by itself."""


class Loads(Protocol):
    """What the dispatcher needs of `Replicas`."""

    def begin(self, child: ChildView, request: Request, evicts: tuple[str, ...]) -> None:
        """Begin a load, so that the next snapshot shows it."""


class Dispatcher:
    """Gives leases. The counts of requests in flight are its own, and no one else's."""

    def __init__(
        self, changed: Bell, memory: Memory, look: Callable[[], Snapshot], limits: Limits, loads: Loads
    ) -> None:
        self._changed = changed
        self._memory = memory
        self._look = look
        self._limits = limits
        self._loads = loads
        self._admission = Admission(memory)
        self._granted: dict[Ticket, asyncio.Future[Lease]] = {}
        self._open: defaultdict[str, dict[Lease, None]] = defaultdict(dict)
        self._busy: dict[str, dict[str, int]] = {}
        """Each child's counts are replaced when they change: a view of the child holds them as they were."""
        self.emptied = Bell()
        """Rung when a child's last lease comes back."""
        self._in_line = asyncio.Event()
        """Set while somebody has to wait: nobody else needs looking after."""
        self._unready = 0
        self._routable_s = 0.0
        """When a child was last seen routable."""

    def limit(self, limits: Limits) -> None:
        """Go by other limits from now on."""
        self._limits = limits

    @property
    def waiting(self) -> int:
        """Requests that wait for a slot, or for a child to become ready."""
        return len(self._admission) + self._unready

    def in_flight(self, child: str) -> int:
        """Requests that hold a lease on this child."""
        return len(self._open[child])

    def streams(self, child: str) -> tuple[StreamView, ...]:
        """The same, one by one, oldest first."""
        return tuple(StreamView(lease.model, lease.since_s, lease.heard_s, lease.held) for lease in self._open[child])

    def busy(self, child: str) -> Mapping[str, int]:
        """The same, counted by model; never changed once it is given."""
        return self._busy.get(child, NONE)

    @property
    def total_in_flight(self) -> int:
        """Requests that hold a lease on any child."""
        return sum(map(len, self._open.values()))

    async def run(self) -> None:
        """Look after those in line until cancelled: whenever something has changed, and a few times a second."""
        while True:
            await self._in_line.wait()
            while len(self._admission):
                self._pump()
                await self._changed.heard(TICK_S)
            self._in_line.clear()

    @asynccontextmanager
    async def lease(self, request: Request, *, wait: bool = True) -> AsyncIterator[Lease]:
        """A lease for this request, given back when the block is left, however it is left.

        It waits for a slot; and for a child to become ready where none is, unless `wait` is False. Raises
        CapacityError.
        """
        key = request.key
        now_s = time.monotonic()
        if request.need is Need.RUNNER and not request.tried:
            self._memory.arrived(request, now_s)
        if key is None or request.need is not Need.RUNNER or not self._waits_for_slots(key, now_s):
            lease = await self._without_slot(request, now_s, wait=wait)
        else:
            lease = await self._with_slot(request, key, now_s, wait=wait)
        try:
            yield lease
        finally:
            self._close(lease)

    def _waits_for_slots(self, key: Key, now_s: float) -> bool:
        return self._memory.rules.policy is Policy.COST and not self._memory.is_refused(key, now_s)

    # What needs no slot.

    async def _without_slot(self, request: Request, asked_s: float, *, wait: bool) -> Lease:
        deadline_s = asked_s + (self._limits.ready_wait_s if wait else 0.0)
        while True:
            snapshot = self._look()
            _refuse_while_stopping(snapshot)
            decision = decide(request, snapshot, self._memory, random.random())  # noqa: S311 - no secret
            if decision.child is not None:
                return self._opened(request, decision, snapshot, asked_s)
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                raise _nobody(snapshot)
            if self.waiting >= self._limits.waiting_max:
                raise self._full(RETRY_AFTER_S)
            self._unready += 1
            try:
                await self._changed.heard(left_s)
            finally:
                self._unready -= 1

    # What needs one.

    async def _with_slot(self, request: Request, key: Key, asked_s: float, *, wait: bool) -> Lease:
        if self._admission.nobody_wants(key) and (lease := self._at_once(request, asked_s)) is not None:
            return lease
        granted: asyncio.Future[Lease] = asyncio.get_running_loop().create_future()
        ticket = self._admission.enter(request, key, asked_s)
        self._granted[ticket] = granted
        try:
            self._pump(only=key)
            if not granted.done():
                self._in_line.set()
                self._refuse_if_hopeless(request, key)
                await self._until_granted(request, granted, asked_s, wait=wait)
            return granted.result()
        except BaseException:
            if granted.done() and not granted.cancelled() and granted.exception() is None:
                self._close(granted.result())  # it was granted in the very moment that its client left
            raise
        finally:
            del self._granted[ticket]
            self._admission.leave(ticket, time.monotonic())

    def _at_once(self, request: Request, asked_s: float) -> Lease | None:
        """The lease, where there is a free slot and nobody before it: then there is no line to get in."""
        snapshot = self._look()
        _refuse_while_stopping(snapshot)
        decision = decide(request, snapshot, self._memory, random.random())  # noqa: S311 - no secret
        if decision.verdict is not Verdict.SEND:
            return None
        self._routable_s = snapshot.taken_at_s
        return self._opened(request, decision, snapshot, asked_s)

    def _refuse_if_hopeless(self, request: Request, key: Key) -> None:
        """Raises CapacityError where the queue is full, or the client would be gone before its turn."""
        snapshot = self._look()
        if self.waiting > self._limits.waiting_max:
            raise self._full(retry_after_s(self._admission.expected_s(request, key, snapshot)))
        if (after_s := self._admission.hopeless(request, key, snapshot)) is not None:
            raise CapacityError(
                f"the wait for {request.model} is longer than the {request.patience_s:g} s that this request allows",
                after_s,
                TurnedAway.NO_SLOT,
            )

    async def _until_granted(
        self, request: Request, granted: asyncio.Future[Lease], asked_s: float, *, wait: bool
    ) -> None:
        """Wait for the lease. Raises CapacityError when patience is over: with a queue, or with children down."""
        patience_s = self._limits.wait_max_s if request.patience_s is None else request.patience_s
        while not granted.done():
            snapshot = self._look()
            _refuse_while_stopping(snapshot)
            now_s = time.monotonic()
            until_s = asked_s + patience_s
            if not _has_candidate(request, snapshot):
                lost_s = asked_s if request.tried else max(asked_s, self._routable_s)
                ready_s = lost_s + (self._limits.ready_wait_s if wait else 0.0)
                if now_s >= ready_s:
                    raise _nobody(snapshot)
                until_s = min(until_s, ready_s)
            elif now_s >= until_s:
                key = request.key
                expected_s = 0.0 if key is None else self._admission.expected_s(request, key, snapshot)
                raise CapacityError(
                    f"no slot for {request.model} came free in {patience_s:g} s, {self.waiting - 1} others wait;"
                    " try again later, or raise [routing] wait_max_s",
                    retry_after_s(expected_s),
                    TurnedAway.NO_SLOT,
                )
            else:
                until_s = min(until_s, now_s + max(self._limits.ready_wait_s, TICK_S))
            await asyncio.wait([granted], timeout=max(0.0, until_s - now_s))

    def _pump(self, only: Key | None = None) -> None:
        """Carry out every move there is."""
        while len(self._admission):
            snapshot = self._look()
            if any(child.routable for child in snapshot.children):
                self._routable_s = snapshot.taken_at_s
            if snapshot.stopping:
                self._send_home()
                return
            move = self._admission.next_move(snapshot, random.random(), only)  # noqa: S311 - no secret
            match move:
                case None:
                    return
                case Send(ticket=ticket, decision=decision):
                    self._admission.leave(ticket, snapshot.taken_at_s, served=True)
                    lease = self._opened(ticket.request, decision, snapshot, ticket.asked_s)
                    self._granted[ticket].set_result(lease)
                case Load(request=request, decision=decision):
                    child = _named(snapshot, decision.child)
                    log.debug("load decided", child=child.id, model=request.model, **_why(decision))
                    self._loads.begin(child, request, decision.evicts)

    def _send_home(self) -> None:
        for granted in self._granted.values():
            if not granted.done():
                granted.set_exception(_stopping())

    def _opened(self, request: Request, decision: Decision, snapshot: Snapshot, asked_s: float) -> Lease:
        """The lease, counted: no await since the decision, so that a burst spreads."""
        chosen = _named(snapshot, decision.child)
        now_s = time.monotonic()
        model = request.model if request.need is Need.RUNNER else None
        held = 0
        if model is not None:
            held = self._memory.prefixes.held_blocks(chosen.id, chosen.life, model, request.prefix)
            self._memory.sent(request, chosen.id, chosen.life, chosen.slots, now_s)
        lease = Lease(
            child=chosen.id,
            life=chosen.life,
            base_url=f"http://127.0.0.1:{chosen.port}",
            waited_ms=round((now_s - asked_s) * 1000),
            model=model,
            since_s=now_s,
            request=request,
            reason=_in_words(decision),
            kind=chosen.kind,
            cached=held > 0,
        )
        self._open[chosen.id][lease] = None
        if model is not None:
            self._count(chosen.id, model, 1)
        if tells_debug():
            log.debug("routed", child=chosen.id, model=model, waited_ms=lease.waited_ms, **_why(decision))
        return lease

    def _close(self, lease: Lease) -> None:
        leases = self._open[lease.child]
        del leases[lease]
        if lease.model is not None:
            self._count(lease.child, lease.model, -1)
        if not lease.judged and lease.model is not None:
            self._memory.breakers.gave_up(lease.child, lease.life, lease.model)
        self._changed.ring()
        if not leases:
            self.emptied.ring()

    def _count(self, child: str, model: str, change: int) -> None:
        """One request more or less; none is no entry."""
        before = self._busy.get(child, NONE)
        count = before.get(model, 0) + change
        self._busy[child] = (
            {**before, model: count} if count else {name: before[name] for name in before if name != model}
        )

    def _full(self, after_s: int) -> CapacityError:
        text = f"{self._limits.waiting_max} requests wait for a child already; try again later"
        return CapacityError(text, after_s, TurnedAway.QUEUE_FULL)


def _has_candidate(request: Request, snapshot: Snapshot) -> bool:
    return any(child.routable and (child.id, child.life) not in request.tried for child in snapshot.children)


def _named(snapshot: Snapshot, name: str | None) -> ChildView:
    return next(child for child in snapshot.children if child.id == name)


def _in_words(decision: Decision) -> str:
    terms = next((terms for terms in decision.candidates if terms.child == decision.child), None)
    return decision.reason if terms is None else f"{decision.reason}; {terms}"


def _why(decision: Decision) -> dict[str, object]:
    return {"reason": decision.reason, "candidates": decision.explain()}


def _refuse_while_stopping(snapshot: Snapshot) -> None:
    if snapshot.stopping:
        raise _stopping()


def _stopping() -> CapacityError:
    return CapacityError("ollamad is stopping; try again when it is back", RETRY_AFTER_S, TurnedAway.STOPPING)


def _nobody(snapshot: Snapshot) -> CapacityError:
    states = ", ".join(f"{child.id} {_state(child)}" for child in snapshot.children) or "there is no child"
    return CapacityError(f"no child can take this request now ({states})", RETRY_AFTER_S)


def _state(child: ChildView) -> str:
    return f"{child.phase.value}: {child.reason}" if child.reason and not child.routable else child.phase.value
