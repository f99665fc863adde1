"""The access log: one line for each request that ended, or for those that are worth one.

Who asked (`client`, `request_id`) is bound to the log by whoever serves the request. What a client or a child did not
say has no field. Prompts and answers are never told.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

import structlog

from ollamad.config.schema import Log
from ollamad.errors import TurnedAway
from ollamad.fleet.trip import Outcome, Trip
from ollamad.log import access
from ollamad.routing.knowledge import Tally

log = structlog.get_logger()

_ORDINARY: Final = frozenset({Outcome.SERVED, Outcome.CLIENT_LEFT})
_NO_FAULT: Final = _ORDINARY | {Outcome.REVOKED}
_THE_CLIENT_S: Final = frozenset(
    {TurnedAway.BAD_REQUEST, TurnedAway.NO_KEY, TurnedAway.NOT_ALLOWED, TurnedAway.TOO_MANY}
)
_NOTHING: Final = Tally()


class AccessLog:
    """Tells the log of trips that ended."""

    def __init__(self, settings: Callable[[], Log], luck: Callable[[], float] = random.random) -> None:
        """`luck` gives numbers from 0 to 1."""
        self._settings = settings
        self._luck = luck

    def tell(self, trip: Trip) -> None:
        """One request is over."""
        settings = self._settings()
        if settings.access and (not is_ordinary(trip, settings.access_slow_s) or self._luck() < settings.access_share):
            if _is_no_fault(trip):
                access("request", facts(trip))
            else:
                log.warning("request", **facts(trip))


def is_ordinary(trip: Trip, slow_s: float) -> bool:
    """Whether nothing about it is worth a line of its own."""
    return trip.outcome in _ORDINARY and (trip.ttft_s or trip.queue_s or 0.0) < slow_s


def facts(trip: Trip) -> dict[str, object]:
    """What is told of a request. What is not known is left out."""
    tally = trip.tally or _NOTHING
    told: dict[str, object] = {
        "method": trip.method,
        "path": trip.path,
        "model": trip.model,
        "child": trip.child,
        "reason": trip.reasons[-1] if trip.reasons else None,
        "attempts": trip.attempts if trip.attempts > 1 else None,
        "status": trip.status,
        "outcome": None if trip.outcome is None else trip.outcome.value,
        "queue_ms": _ms(trip.queue_s),
        "load_ms": _ms(tally.load_s),
        "ttft_ms": _ms(trip.ttft_s),
        "total_ms": _ms(trip.total_s),
        "tokens_in": tally.prompt_tokens,
        "tokens_out": tally.output_tokens,
        "tokens_per_s": None if trip.tokens_per_s is None else round(trip.tokens_per_s, 1),
        "sent_bytes": trip.sent_bytes or None,
        "error": trip.why,
    }
    return {name: value for name, value in told.items() if value is not None}


def _is_no_fault(trip: Trip) -> bool:
    """Neither ours nor a child's: what a client does wrong is nothing that wakes anybody."""
    return trip.outcome in _NO_FAULT or trip.turned_away in _THE_CLIENT_S


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)
