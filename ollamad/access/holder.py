"""Who presents a key, what he has in flight, and how that ends when his key is revoked.

Whoever serves a request says how it is to be ended (`ended_by`): by a cancellation as long as the client has no part of
an answer, by one more record of its stream from then on. An expiry ends nothing: it was known beforehand, and says when
the last request may begin; a revocation says that somebody has the key who should not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from types import TracebackType
from typing import Final

from ollamad.access.bucket import Bucket
from ollamad.access.key import Key
from ollamad.errors import ClientError, TurnedAway

REVOKED: Final = "the API key that this request came with has been revoked"


class KeyRevoked(ClientError):
    """The key of a request was revoked while it was served."""

    def __init__(self) -> None:
        super().__init__(HTTPStatus.UNAUTHORIZED, REVOKED, why=TurnedAway.NO_KEY)


@dataclass(slots=True)
class Usage:
    """What a key has had since the daemon started."""

    requests: int = 0
    last_used: datetime | None = None
    bucket: Bucket | None = None
    begun: dict[Holder, None] = field(default_factory=dict)
    """Its requests in flight, oldest first."""

    @property
    def in_flight(self) -> int:
        """How many those are."""
        return len(self.begun)


@dataclass(slots=True, eq=False)
class Holder:
    """Who presents a key that is in force, with one request."""

    id: str
    key: Key
    usage: Usage
    end: Callable[[], None] | None = None
    """Ends the request; None while nobody could."""
    revoked: bool = False
    """Whether it was ended so."""

    @property
    def label(self) -> str:
        """How it is called in logs and metrics."""
        return self.key.name

    def revoke(self) -> bool:
        """End his request; gives whether there was something to end."""
        if self.end is None or self.revoked:
            return False
        self.revoked = True
        self.end()
        return True

    def leaves(self) -> None:
        """A request of his is over; a second time is nothing."""
        self.usage.begun.pop(self, None)


class ended_by(AbstractContextManager[None]):  # noqa: N801 - read as `with ended_by(holder, call)`
    """While this block lasts, a revocation ends the request by this call. Without a holder there is none."""

    __slots__ = ("_before", "_end", "_holder")

    def __init__(self, holder: Holder | None, end: Callable[[], None]) -> None:
        self._holder = holder
        self._end = end

    def __enter__(self) -> None:
        if self._holder is not None:
            self._before, self._holder.end = self._holder.end, self._end

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._holder is not None:
            self._holder.end = self._before


class until_revoked(AbstractContextManager[None]):  # noqa: N801 - read as `with until_revoked(holder)`
    """While this block lasts, a revocation cancels it, and it raises KeyRevoked. Other cancellations are left alone."""

    __slots__ = ("_ended_by", "_holder", "_task", "_was_cancelling")

    def __init__(self, holder: Holder | None) -> None:
        self._holder = holder
        self._ended_by = ended_by(holder, self._cancel)

    def __enter__(self) -> None:
        if self._holder is not None:
            task = asyncio.current_task()
            assert task is not None  # noqa: S101 - requests are served by tasks
            self._task, self._was_cancelling = task, task.cancelling()
            self._ended_by.__enter__()

    def _cancel(self) -> None:
        self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._holder is None:
            return
        self._ended_by.__exit__(kind, error, trace)
        ours = isinstance(error, asyncio.CancelledError) and self._holder.revoked
        if ours and self._task.uncancel() <= self._was_cancelling:
            raise KeyRevoked from error
