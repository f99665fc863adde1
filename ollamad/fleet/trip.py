"""One request from its arrival to its end, written down by whoever serves it: how it ended, and where its time went."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import Enum
from types import TracebackType
from typing import Final

from ollamad.errors import TurnedAway
from ollamad.routing.knowledge import Tally

TEXT_MAX: Final = 200
"""Characters of a client's own text that are kept: a path or a model's name can be as long as it likes."""
TOKENS_TELLING: Final = 5
"""Fewer tokens than this say nothing about speed."""
FAULT: Final = 500
"""From this status on it is a server's fault."""


class Outcome(Enum):
    """How a request ended."""

    SERVED = "served"
    """A child answered, and the answer reached its end; also a child's own 4xx."""
    CHILD_ERROR = "child_error"
    """A child's own 5xx, passed on because no other did better."""
    BROKEN = "broken"
    """The child was gone in the middle of its answer."""
    NO_ANSWER = "no_answer"
    """No child could answer."""
    CLIENT_LEFT = "client_left"
    REFUSED = "refused"
    """By ollamad, before any child saw it."""
    REVOKED = "revoked"
    """By an operator, who revoked its key in the middle of the answer."""
    CRASHED = "crashed"
    """A fault of ollamad's own."""


@dataclass(slots=True)
class Trip:
    """What is known of one request. Times are seconds."""

    method: str
    path: str
    id: str
    since_s: float = field(default_factory=time.monotonic)
    """When it came, on the monotonic clock."""
    key: str | None = None
    """The name of the API key that it came with; None where none is asked for, or it had none."""
    model: str | None = None
    child: str | None = None
    """Who had it last."""
    attempts: int = 0
    """How often it was sent to a child."""
    queue_s: float | None = None
    """Waited for children, all attempts together; None where it never had one."""
    first_byte_s: float | None = None
    """From having the child that answered to the first byte of its response; None where none came."""
    reasons: list[str] = field(default_factory=list)
    """Why each child was chosen, in few words."""
    sent_bytes: int = 0
    tally: Tally | None = None
    """What the child counted; None where it did not."""
    outcome: Outcome | None = None
    """None until it is known."""
    turned_away: TurnedAway | None = None
    """Why, where it was refused."""
    status: int | None = None
    why: str | None = None
    """What went wrong, for people."""
    ended_s: float = 0.0
    streamed: bool = False
    """Whether its response came in pieces: all at once, it tells nothing of the time between tokens."""
    _sent_s: float = 0.0
    _begun_s: float = 0.0
    _relayed_s: float = 0.0

    @property
    def total_s(self) -> float:
        """All of it."""
        return self.ended_s - self.since_s

    @property
    def ttft_s(self) -> float | None:
        """Time to first token: from its arrival to the first byte of its response; None where none came."""
        return None if self.first_byte_s is None else self._begun_s - self.since_s

    @property
    def inter_token_s(self) -> float | None:
        """The mean time between two tokens, by the first and the last byte; None where there is too little to tell by.

        Over the whole response, since looking at each token would cost as much as passing it on.
        """
        tokens = 0 if self.tally is None else self.tally.output_tokens or 0
        if tokens < TOKENS_TELLING or self._relayed_s <= self._begun_s or not self.streamed:
            return None
        return (self._relayed_s - self._begun_s) / (tokens - 1)

    def names(self, model: str | None) -> None:
        """It names a model."""
        self.model = None if model is None else model[:TEXT_MAX]

    @property
    def tokens_per_s(self) -> float | None:
        """How fast the child generated; None where it did not say, or where there is too little to tell by."""
        tally = self.tally
        if tally is None or not tally.output_s or (tally.output_tokens or 0) < TOKENS_TELLING:
            return None
        return (tally.output_tokens or 0) / tally.output_s

    def sent(self, child: str, waited_s: float, reason: str) -> None:
        """It has a child, for which it has waited; `reason` may go into detail after a semicolon."""
        self.child = child
        self.reasons.append(reason.partition(";")[0])
        self.attempts += 1
        self.queue_s = (self.queue_s or 0.0) + waited_s
        self._sent_s = time.monotonic()

    def begun(self, status: int, *, streamed: bool = False) -> None:
        """The first byte of a response that will be passed on has come."""
        self.streamed = streamed
        self._begun_s = time.monotonic()
        self.first_byte_s = self._begun_s - self._sent_s
        self.status = status

    def relayed(self, sent_bytes: int, broken: str | None) -> None:
        """A response has been passed on: to its end, or to where the child was gone, and why."""
        self.sent_bytes = sent_bytes
        self._relayed_s = time.monotonic()
        if broken is not None:
            self.outcome, self.why = Outcome.BROKEN, broken

    def answered(self, status: int) -> None:
        """The client has its answer; one that broke is one, too."""
        if self.outcome is None:
            self.ends(Outcome.CHILD_ERROR if status >= FAULT else Outcome.SERVED, status)

    def ends(self, outcome: Outcome, status: int | None = None, why: str | None = None) -> None:
        """How it will have ended."""
        self.outcome = outcome
        self.why = self.why if why is None else why
        self.status = self.status if status is None else status

    def is_refused(self, kind: TurnedAway, status: int, why: str) -> None:
        """It is not given to any child."""
        self.turned_away = kind
        self.ends(Outcome.REFUSED, status, why)


class travel(AbstractContextManager[Trip]):  # noqa: N801 - read as `with travel(...) as trip`
    """A trip from now until the block is left, however it is left; `ended` is told then."""

    __slots__ = ("_ended", "_trip")

    def __init__(self, method: str, path: str, request_id: str, ended: Callable[[Trip], None]) -> None:
        self._trip = Trip(method[:TEXT_MAX], path[:TEXT_MAX], request_id[:TEXT_MAX])
        self._ended = ended

    def __enter__(self) -> Trip:
        return self._trip

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._trip.ended_s = time.monotonic()
        self._ended(self._trip)
