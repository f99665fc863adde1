"""A queue that is fair between clients: start-time fair queuing (Goyal, Vin and Cheng, 1996).

Each request gets a tag when it comes: the time, in units of service, at which its client would be served if all had an
equal share. The least tag goes first. A client with two hundred requests in line has two hundred tags in a row; the
first request of another client gets the tag of now, and goes next. A share can be larger or smaller, but not nothing,
so that nobody starves.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Final

from ollamad.routing.request import Request

OWING_MAX: Final = 1024
"""Clients without a request in line whose last one is remembered. They can make up as many names as they like."""


@dataclass(slots=True, eq=False)
class Ticket:
    """A request in line."""

    request: Request
    asked_s: float
    tag: float = 0.0
    number: int = 0
    waits: bool = field(default=True)
    """False once it has been served or has left."""

    def __lt__(self, other: Ticket) -> bool:
        return (self.tag, self.number) < (other.tag, other.number)


class FairQueue:
    """Tickets of one kind that can stand in for each other. Everything is done in logarithmic time, or constant."""

    def __init__(self) -> None:
        self._heap: list[Ticket] = []
        self._numbers = count()
        self._now = 0.0
        self._ends: dict[str, float] = {}
        """By client with requests in line: where its next tag starts."""
        self._owing: dict[str, float] = {}
        """The same of those who had their last one served and have none in line; who was so last is last."""
        self._counts: dict[str, int] = {}
        self._asked_sum_s = 0.0
        self._len = 0

    def __len__(self) -> int:
        return self._len

    def waited_s(self, now_s: float) -> float:
        """The ages of all in line together."""
        return max(0.0, self._len * now_s - self._asked_sum_s)

    def put(self, request: Request, now_s: float) -> Ticket:
        """Get in line."""
        client = request.client
        start = max(self._now, self._ends.get(client, 0.0), self._owing.pop(client, 0.0))
        self._ends[client] = start + 1.0 / request.priority.value
        self._counts[client] = self._counts.get(client, 0) + 1
        ticket = Ticket(request, now_s, start, next(self._numbers))
        heapq.heappush(self._heap, ticket)
        self._asked_sum_s += now_s
        self._len += 1
        return ticket

    def remove(self, ticket: Ticket, *, served: bool) -> None:
        """Leave the line, served or not; a second time is nothing."""
        if not ticket.waits:
            return
        ticket.waits = False
        if served:
            self._now = max(self._now, ticket.tag)
        client = ticket.request.client
        self._counts[client] -= 1
        if not self._counts[client]:
            del self._counts[client]
            end = self._ends.pop(client)
            if served:  # who left unserved owes nothing
                self._owing[client] = end
                if len(self._owing) > OWING_MAX:
                    del self._owing[next(iter(self._owing))]
        self._asked_sum_s -= ticket.asked_s
        self._len -= 1
        self._tidy()

    def head(self) -> Ticket | None:
        """Who goes next."""
        return self._heap[0] if self._heap else None

    def in_order(self) -> Iterator[Ticket]:
        """All in line, the next one first; costs a sort, unless only the first is asked for."""
        if self._heap:
            yield self._heap[0]
            rest = sorted(self._heap)
            yield from (ticket for ticket in rest[1:] if ticket.waits)

    def _tidy(self) -> None:
        """Drop from the front what has left; and all that has, once it is the larger part."""
        while self._heap and not self._heap[0].waits:
            heapq.heappop(self._heap)
        if len(self._heap) > 2 * self._len + 8:
            self._heap = [ticket for ticket in self._heap if ticket.waits]
            heapq.heapify(self._heap)
        if not self._len:
            self._owing.clear()
            self._asked_sum_s = 0.0
