"""Requests that need a slot, and wait here until one frees: bound to a child only then (`routing.admission`)."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from ollamad.errors import CapacityError, TurnedAway
from ollamad.fleet.bell import Bell
from ollamad.fleet.lease import Lease, Limits
from ollamad.fleet.ledger import Ledger, named, why
from ollamad.fleet.refusals import full, nobody, refuse_while_stopping, stopping
from ollamad.routing.admission import Admission, Load, Send, retry_after_s
from ollamad.routing.decide import Key, Request, Verdict, decide
from ollamad.routing.fair import Ticket
from ollamad.routing.memory import Memory
from ollamad.routing.snapshot import ChildView, Snapshot

log = structlog.get_logger()

TICK_S: Final = 0.25
"""How often those in line are looked at although nothing has happened: their patience with a load grows by itself."""


class Loads(Protocol):
    """What is needed of `Replicas`."""

    def begin(self, child: ChildView, request: Request, evicts: tuple[str, ...]) -> None:
        """Begin a load, so that the next snapshot shows it."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the line sees of the rest."""

    changed: Bell
    look: Callable[[], Snapshot]
    limits: Callable[[], Limits]
    waiting: Callable[[], int]
    """All that wait, also for a child to become ready."""


class Line:
    """Those who wait for a slot. Gives leases in their turn."""

    def __init__(self, memory: Memory, ledger: Ledger, loads: Loads, around: Surroundings) -> None:
        self._memory = memory
        self._ledger = ledger
        self._loads = loads
        self._around = around
        self._admission = Admission(memory)
        self._granted: dict[Ticket, asyncio.Future[Lease]] = {}
        self._occupied = asyncio.Event()
        """Set while somebody has to wait: nobody else needs looking after."""
        self._routable_s = 0.0
        """When a child was last seen routable."""

    def __len__(self) -> int:
        """How many wait for a slot."""
        return len(self._admission)

    async def run(self) -> None:
        """Look after those in line until cancelled: whenever something has changed, and a few times a second."""
        while True:
            await self._occupied.wait()
            while len(self._admission):
                self._pump()
                await self._around.changed.heard(TICK_S)
            self._occupied.clear()

    async def lease(self, request: Request, key: Key, asked_s: float, *, wait: bool) -> Lease:
        """A lease with a slot; see `Dispatcher.lease`. Raises CapacityError."""
        if self._admission.nobody_wants(key) and (lease := self._at_once(request, asked_s)) is not None:
            return lease
        self._refuse_if_full(request, key)
        granted: asyncio.Future[Lease] = asyncio.get_running_loop().create_future()
        ticket = self._admission.enter(request, key, asked_s)
        self._granted[ticket] = granted
        try:
            self._pump(only=key)
            if not granted.done():
                self._occupied.set()
                self._refuse_if_hopeless(request, key)
                await self._until_granted(request, granted, asked_s, wait=wait)
            return granted.result()
        except BaseException:
            if granted.done() and not granted.cancelled() and granted.exception() is None:
                self._ledger.close(granted.result())  # it was granted in the very moment that its client left
            raise
        finally:
            del self._granted[ticket]
            self._admission.leave(ticket, time.monotonic())

    def _at_once(self, request: Request, asked_s: float) -> Lease | None:
        """The lease, where there is a free slot and nobody before it: then there is no line to get in."""
        snapshot = self._around.look()
        refuse_while_stopping(snapshot)
        decision = decide(request, snapshot, self._memory, random.random())  # noqa: S311 - no secret
        if decision.verdict is not Verdict.SEND:
            return None
        self._routable_s = snapshot.taken_at_s
        return self._ledger.open(request, decision, snapshot, asked_s)

    def _refuse_if_full(self, request: Request, key: Key) -> None:
        """Raises CapacityError. Before anything else is done for it: of ten requests too many, nine end here."""
        limits = self._around.limits()
        if self._around.waiting() >= limits.waiting_max:
            raise full(limits, retry_after_s(self._admission.expected_s(request, key, self._around.look())))

    def _refuse_if_hopeless(self, request: Request, key: Key) -> None:
        """Raises CapacityError where the client would be gone before its turn."""
        snapshot = self._around.look()
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
        patience_s = self._around.limits().wait_max_s if request.patience_s is None else request.patience_s
        while not granted.done():
            snapshot, limits = self._around.look(), self._around.limits()
            refuse_while_stopping(snapshot)
            now_s = time.monotonic()
            until_s = asked_s + patience_s
            if not snapshot.has_another(request.tried):
                lost_s = asked_s if request.tried else max(asked_s, self._routable_s)
                ready_s = lost_s + (limits.ready_wait_s if wait else 0.0)
                if now_s >= ready_s:
                    raise nobody(snapshot)
                until_s = min(until_s, ready_s)
            elif now_s >= until_s:
                raise self._no_slot(request, patience_s, snapshot)
            else:
                until_s = min(until_s, now_s + max(limits.ready_wait_s, TICK_S))
            await asyncio.wait([granted], timeout=max(0.0, until_s - now_s))

    def _no_slot(self, request: Request, patience_s: float, snapshot: Snapshot) -> CapacityError:
        key = request.key
        expected_s = 0.0 if key is None else self._admission.expected_s(request, key, snapshot)
        return CapacityError(
            f"no slot for {request.model} came free in {patience_s:g} s, {self._around.waiting() - 1} others wait;"
            " try again later, or raise [routing] wait_max_s",
            retry_after_s(expected_s),
            TurnedAway.NO_SLOT,
        )

    def _pump(self, only: Key | None = None) -> None:
        """Carry out every move there is."""
        while len(self._admission):
            snapshot = self._around.look()
            if any(child.routable for child in snapshot.children):
                self._routable_s = snapshot.taken_at_s
            if snapshot.refusing:
                self._send_home()
                return
            move = self._admission.next_move(snapshot, random.random(), only)  # noqa: S311 - no secret
            match move:
                case None:
                    return
                case Send(ticket=ticket, decision=decision):
                    self._admission.leave(ticket, snapshot.taken_at_s, served=True)
                    lease = self._ledger.open(ticket.request, decision, snapshot, ticket.asked_s)
                    self._granted[ticket].set_result(lease)
                case Load(request=request, decision=decision):
                    child = named(snapshot, decision.child)
                    log.debug("load decided", child=child.id, model=request.model, **why(decision))
                    self._loads.begin(child, request, decision.evicts)

    def _send_home(self) -> None:
        for granted in self._granted.values():
            if not granted.done():
                granted.set_exception(stopping())
