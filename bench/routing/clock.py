"""Virtual time: what happens next is what was put down for the earliest time."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count


class Clock:
    """Runs callbacks in the order of their times."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()

    def at(self, time_s: float, action: Callable[[], None]) -> None:
        """Call `action` at this time, or now if that is past."""
        heapq.heappush(self._heap, (max(time_s, self.now_s), next(self._numbers), action))

    def run(self, until_s: float) -> None:
        """Until nothing is left to happen, or the time is over."""
        while self._heap and self._heap[0][0] <= until_s:
            self.now_s, _, action = heapq.heappop(self._heap)
            action()
