"""The queue in front of the leases, and what can be done next for those in it.

Pure: whoever drives it (the dispatcher; the simulator in `bench/`) asks for the next move, carries it out, so that the
next snapshot shows it, and asks again until there is none.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, isfinite
from typing import Final

from ollamad.routing.decide import decide
from ollamad.routing.decision import Decision, Verdict
from ollamad.routing.fair import FairQueue, Ticket
from ollamad.routing.knowledge import What
from ollamad.routing.memory import Line, Memory
from ollamad.routing.request import Key, Request, Work
from ollamad.routing.snapshot import Snapshot

IN_LINE: Final = (Work.EMBED, Work.GENERATE)
RETRY_MIN_S: Final = 1
RETRY_MAX_S: Final = 600
LOOKS_MAX: Final = 8
"""How far down one line is looked for a request that may go where its head has already failed."""


@dataclass(frozen=True, slots=True)
class Send:
    """A request goes to a child now."""

    ticket: Ticket
    decision: Decision


@dataclass(frozen=True, slots=True)
class Load:
    """A load is begun now."""

    request: Request
    """One of those that wait for it."""
    decision: Decision


Move = Send | Load


class Admission:
    """Who waits for what. Writes `Memory.lines`."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._queues: dict[tuple[Key, Work], FairQueue] = {}
        self._len = 0

    def __len__(self) -> int:
        """How many wait."""
        return self._len

    def nobody_wants(self, key: Key) -> bool:
        """Whether a request for this key would be alone in line."""
        return not any((key, work) in self._queues for work in IN_LINE)

    def enter(self, request: Request, key: Key, now_s: float) -> Ticket:
        """Get in line."""
        queue = self._queues.get((key, request.work))
        if queue is None:
            queue = self._queues[key, request.work] = FairQueue()
        self._len += 1
        ticket = queue.put(request, now_s)
        self._draw_line(key, now_s)
        return ticket

    def leave(self, ticket: Ticket, now_s: float, *, served: bool = False) -> None:
        """Served, cancelled, or out of patience: gone at once. A second time is nothing."""
        key = ticket.request.key
        if not ticket.waits or key is None:
            return
        name = (key, ticket.request.work)
        queue = self._queues[name]
        queue.remove(ticket, served=served)
        self._len -= 1
        if not queue:
            del self._queues[name]
        self._draw_line(key, now_s)

    def next_move(self, snapshot: Snapshot, luck: float, only: Key | None = None) -> Move | None:
        """What can be done now; None when all must wait. `only` looks at one key: a request for it has just come."""
        if not self._queues:
            return None
        keys = self._by_age(snapshot.taken_at_s) if only is None else [only]
        for key in keys:
            for work in IN_LINE:  # embeddings first: they are short, and never wait behind generations
                queue = self._queues.get((key, work))
                if queue is not None and (send := self._first_sendable(queue, snapshot, luck)):
                    return send
        return next((load for key in keys if (load := self._load_for(key, snapshot, luck))), None)

    def hopeless(self, request: Request, key: Key, snapshot: Snapshot) -> int | None:
        """Seconds after which to come back, where a request's own deadline can't be met; None where it may be."""
        if request.patience_s is None or request.model is None:
            return None
        expected_s = self.expected_s(request, key, snapshot)
        sure = any(self._memory.knowledge.is_sure(What.SERVICE_S, request.model, c.kind) for c in snapshot.children)
        return retry_after_s(expected_s - request.patience_s) if sure and expected_s > request.patience_s else None

    def expected_s(self, request: Request, key: Key, snapshot: Snapshot) -> float:
        """To the first token, for a request that got in line now."""
        place = sum(len(self._queues.get((key, work), ())) for work in IN_LINE)
        return decide(request, snapshot, self._memory, 0.0, place=place).expected_s

    def _first_sendable(self, queue: FairQueue, snapshot: Snapshot, luck: float) -> Send | None:
        for looks, ticket in enumerate(queue.in_order()):
            decision = decide(ticket.request, snapshot, self._memory, luck)
            if decision.verdict is Verdict.SEND:
                return Send(ticket, decision)
            if not ticket.request.tried or looks >= LOOKS_MAX:
                return None
        return None

    def _load_for(self, key: Key, snapshot: Snapshot, luck: float) -> Load | None:
        """Judged by the last in line, who waits longest."""
        for work in IN_LINE:
            queue = self._queues.get((key, work))
            head = queue.head() if queue else None
            if queue is None or head is None:
                continue
            decision = decide(head.request, snapshot, self._memory, luck, place=len(queue) - 1)
            if decision.verdict is Verdict.LOAD:
                return Load(head.request, decision)
        return None

    def _by_age(self, now_s: float) -> list[Key]:
        """Keys with somebody in line, the longest total wait first; their lines are drawn anew on the way."""
        keys = list(dict.fromkeys(key for key, _ in self._queues))
        for key in keys:
            self._draw_line(key, now_s)
        return sorted(keys, key=lambda key: -self._memory.lines[key].waited_s)

    def _draw_line(self, key: Key, now_s: float) -> None:
        queues = [queue for work in IN_LINE if (queue := self._queues.get((key, work)))]
        if queues:
            self._memory.lines[key] = Line(sum(map(len, queues)), sum(queue.waited_s(now_s) for queue in queues))
        else:
            self._memory.lines.pop(key, None)


def retry_after_s(expected_s: float) -> int:
    """When a refused client had better come back."""
    return min(RETRY_MAX_S, max(RETRY_MIN_S, ceil(expected_s))) if isfinite(expected_s) else RETRY_MIN_S
