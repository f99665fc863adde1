"""A tape: what is said, in order, the last of it kept; read from the beginning of what is left, and on as it comes."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from ollamad.fleet.bell import Bell

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Missed:
    """So many were said and dropped before this reader came to them."""

    count: int


class Tape(Generic[T]):
    """Bounded. A reader that is too slow misses the oldest, and is told how many; it holds nobody up."""

    def __init__(self, kept: int) -> None:
        self._kept: deque[T] = deque(maxlen=kept)
        self._said = 0
        self._closed = False
        self._changed = Bell()

    @property
    def kept(self) -> tuple[T, ...]:
        """What is left, oldest first."""
        return tuple(self._kept)

    @property
    def said(self) -> int:
        """How many in all."""
        return self._said

    def append(self, item: T) -> None:
        """Say one more."""
        self._kept.append(item)
        self._said += 1
        self._changed.ring()

    def close(self) -> None:
        """Nothing more will be said: readers come to an end."""
        self._closed = True
        self._changed.ring()

    async def changed(self, timeout_s: float) -> bool:
        """Wait until something is said or it is closed; False when neither is after `timeout_s`."""
        return self._closed or await self._changed.heard(timeout_s)

    async def read(self) -> AsyncIterator[T | Missed]:
        """All that is left, then all that comes, until it is closed."""
        read = 0
        while True:
            while read < self._said:
                first = self._said - len(self._kept)
                if read < first:
                    yield Missed(first - read)
                    read = first
                    continue
                read += 1
                yield self._kept[read - 1 - first]
            if self._closed:
                return
            await self._changed.heard(None)
