"""The leases that are out: opened in the same step as the decision, closed however their request ends, and counted.

The counts of requests in flight are the ledger's own, and no one else's.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Final

import structlog

from ollamad.fleet.bell import Bell
from ollamad.fleet.lease import Lease
from ollamad.log import tells_debug
from ollamad.routing.decide import Decision, Need, Request
from ollamad.routing.memory import Memory
from ollamad.routing.snapshot import ChildView, Snapshot, StreamView

log = structlog.get_logger()

NONE: Final[Mapping[str, int]] = {}


class Ledger:
    """Owns every lease. `given` is told of each; `changed` is rung for each that comes back, and `returned` told."""

    def __init__(
        self, changed: Bell, memory: Memory, given: Callable[[Lease], None], returned: Callable[[Lease], None]
    ) -> None:
        self._changed = changed
        self._memory = memory
        self._given = given
        self._returned = returned
        self._open: defaultdict[str, dict[Lease, None]] = defaultdict(dict)
        self._busy: dict[str, dict[str, int]] = {}
        """Each child's counts are replaced when they change: a view of the child holds them as they were."""
        self.emptied = Bell()
        """Rung when a child's last lease comes back."""

    def in_flight(self, child: str) -> int:
        """Leases on this child."""
        return len(self._open[child])

    def streams(self, child: str) -> tuple[StreamView, ...]:
        """The same, one by one, oldest first."""
        return tuple(StreamView(lease.model, lease.since_s, lease.heard_s, lease.held) for lease in self._open[child])

    def busy(self, child: str) -> Mapping[str, int]:
        """The same, counted by model; never changed once it is given."""
        return self._busy.get(child, NONE)

    @property
    def total(self) -> int:
        """Leases on any child."""
        return sum(map(len, self._open.values()))

    def open(self, request: Request, decision: Decision, snapshot: Snapshot, asked_s: float) -> Lease:
        """The lease, counted: no await since the decision, so that a burst spreads."""
        chosen = named(snapshot, decision.child)
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
        self._given(lease)
        if tells_debug():
            log.debug("routed", child=chosen.id, model=model, waited_ms=lease.waited_ms, **why(decision))
        return lease

    def move_waiting(self, child: str, life: int, why: str) -> int:
        """Send elsewhere what this life has not begun to answer, as far as others take it; gives how many those are."""
        return sum(lease.move(why) for lease in (*self._open[child],) if lease.life == life)

    def close(self, lease: Lease) -> None:
        """It comes back."""
        leases = self._open[lease.child]
        del leases[lease]
        if lease.model is not None:
            self._count(lease.child, lease.model, -1)
            if not lease.judged:
                self._memory.breakers.gave_up(lease.child, lease.life, lease.model)
        self._returned(lease)
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


def named(snapshot: Snapshot, name: str | None) -> ChildView:
    """The child of this name."""
    return next(child for child in snapshot.children if child.id == name)


def why(decision: Decision) -> dict[str, object]:
    """A decision as facts for the log."""
    return {"reason": decision.reason, "candidates": decision.explain()}


def _in_words(decision: Decision) -> str:
    terms = next((terms for terms in decision.candidates if terms.child == decision.child), None)
    return decision.reason if terms is None else f"{decision.reason}; {terms}"
