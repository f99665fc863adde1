"""Who may change a store, and when: one change of a model at a time, all through one child, none during a prune.

Ollama guards its store within one process only. Two servers that pull one blob write into each other's partial file,
and one that deletes takes blobs that its sibling is about to name. So while any change of a shared store runs, the next
goes to the same child.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Final, Protocol

from ollamad.errors import NoAnswer, StoreError
from ollamad.fleet.bell import Bell
from ollamad.fleet.dispatcher import Lease
from ollamad.routing.decide import Need, Request
from ollamad.routing.snapshot import Snapshot

LOOK_S: Final = 1.0


class Leases(Protocol):
    """What changes need of the fleet."""

    changed: Bell

    def lease(self, request: Request, *, wait: bool = True) -> AbstractAsyncContextManager[Lease]:
        """The right to send this request to a child."""

    def snapshot(self) -> Snapshot:
        """What is true now."""

    def failed(self, lease: Lease) -> None:
        """The child of this lease did not answer or broke off."""

    def loaded(self, lease: Lease) -> None:
        """The child of this lease has loaded its model, which its next look would tell a moment later."""


def pinned(child: str, snapshot: Snapshot, need: Need = Need.ANY) -> Request:
    """A request that only this child can take: every other has, as far as routing goes, failed it."""
    return Request(need, tried=frozenset((other.id, other.life) for other in snapshot.children if other.id != child))


class Changes:
    """Gives out the right to change models. Owns what is being changed now."""

    def __init__(self, fleet: Leases, *, one_store: bool) -> None:
        self._fleet = fleet
        self._one_store = one_store
        self._locks: dict[str, asyncio.Lock] = {}
        self._wanted = Counter[str]()
        self._running = 0
        self._pruning = False
        self._free = Bell()
        self._child: str | None = None
        self._leased = 0

    @property
    def running(self) -> int:
        """How many changes are under way."""
        return self._running

    def is_held(self, key: str) -> bool:
        """Whether this model is being changed, or about to be."""
        return key in self._locks

    @asynccontextmanager
    async def holding(self, *keys: str) -> AsyncIterator[None]:
        """Be the only one to change these models (`Name.key`s); waits its turn, and for the end of a prune."""
        async with AsyncExitStack() as stack:
            for key in sorted(set(keys)):  # in one order, so that two changes of two models can't block each other
                await stack.enter_async_context(self._locked(key))
            while self._pruning:
                await self._free.heard(LOOK_S)
            self._running += 1
            try:
                yield
            finally:
                self._running -= 1

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Be the only one to change anything. Raises StoreError at once where somebody does."""
        if self._running or self._pruning:
            raise StoreError(f"{self._running} changes of models are under way (a pull, a create): try again later")
        self._pruning = True
        try:
            yield
        finally:
            self._pruning = False
            self._free.ring()

    @asynccontextmanager
    async def child(self) -> AsyncIterator[Lease]:
        """A lease on the child that all changes go through now; one that fails in the block is distrusted.

        Raises CapacityError.
        """
        while True:
            while self._is_held_up():
                await self._fleet.changed.heard(LOOK_S)
            async with self._fleet.lease(self._request()) as lease:
                if not self._leased or not self._one_store or lease.child == self._child:
                    self._child = lease.child
                    self._leased += 1
                    try:
                        yield lease
                    except NoAnswer:
                        self._fleet.failed(lease)
                        raise
                    finally:
                        self._leased -= 1
                    return

    def _is_held_up(self) -> bool:
        """Whether the child of the changes under way takes no more: they end soon, or it is well again.

        Seen without a lease on another: one that is given back wakes all who wait, each of whom would take one.
        """
        if not self._one_store or not self._leased:
            return False
        snapshot = self._fleet.snapshot()
        ready = {child.id for child in snapshot.children if child.routable}
        return bool(ready) and self._child not in ready and not snapshot.refusing

    def _request(self) -> Request:
        snapshot = self._fleet.snapshot()
        routable = any(child.id == self._child and child.routable for child in snapshot.children)
        if self._child is not None and self._leased and self._one_store and routable:
            return pinned(self._child, snapshot, Need.STORE)
        return Request(Need.STORE)

    @asynccontextmanager
    async def _locked(self, key: str) -> AsyncIterator[None]:
        lock = self._locks.setdefault(key, asyncio.Lock())
        self._wanted[key] += 1
        try:
            async with lock:
                yield
        finally:
            self._wanted[key] -= 1
            if not self._wanted[key]:
                del self._wanted[key], self._locks[key]
