"""One line for each request, and what decides whether there is one."""

from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from ollamad.config.schema import Log
from ollamad.errors import TurnedAway
from ollamad.fleet.access_log import AccessLog
from ollamad.fleet.trip import Outcome, Trip
from ollamad.routing.knowledge import Tally


def served() -> Trip:
    trip = Trip("POST", "/api/chat", "id", since_s=10.0, model="m:latest", ended_s=12.5)
    trip.sent("gpu0", 0.2, "has the model and a free slot; ready, 0.1 s")
    trip.begun(200, streamed=True)
    trip.relayed(700, None)
    trip.tally = Tally(0.05, 30, 0.1, 60, 2.0)
    trip.answered(200)
    trip.first_byte_s, trip._begun_s = 0.3, 10.6
    return trip


def lines(trip: Trip, *, luck: float = 0.0, **keys: Any) -> list[dict[str, Any]]:
    with capture_logs() as logged:
        AccessLog(lambda: Log(**keys), luck=lambda: luck).tell(trip)
    return [dict(line) for line in logged]


def test_a_line_has_who_answered_why_and_where_the_time_went() -> None:
    assert lines(served()) == [
        {
            "event": "request",
            "log_level": "info",
            "method": "POST",
            "path": "/api/chat",
            "model": "m:latest",
            "child": "gpu0",
            "reason": "has the model and a free slot",
            "status": 200,
            "outcome": "served",
            "queue_ms": 200,
            "load_ms": 50,
            "ttft_ms": 600,
            "total_ms": 2500,
            "tokens_in": 30,
            "tokens_out": 60,
            "tokens_per_s": 30.0,
            "sent_bytes": 700,
        }
    ]


def test_of_ordinary_requests_so_many_are_told_as_are_wanted() -> None:
    assert lines(served(), access_share=0.3, luck=0.29)
    assert not lines(served(), access_share=0.3, luck=0.3)
    assert not lines(served(), access_share=0.0, luck=0.0)


def failed(outcome: Outcome) -> Trip:
    trip = served()
    trip.ends(outcome, 502, "it is gone")
    return trip


def slow() -> Trip:
    trip = served()
    trip._begun_s = 21.0
    return trip


def tired() -> Trip:
    trip = Trip("POST", "/api/chat", "id", since_s=10.0, ended_s=40.0, queue_s=29.0)
    trip.ends(Outcome.CLIENT_LEFT)
    return trip


@pytest.mark.parametrize("trip", [failed(Outcome.BROKEN), failed(Outcome.NO_ANSWER), slow(), tired()])
def test_what_failed_or_was_slow_is_always_told(trip: Trip) -> None:
    assert lines(trip, access_share=0.0, luck=0.99)


def test_turned_off_nothing_is_told() -> None:
    assert not lines(failed(Outcome.BROKEN), access=False)


@pytest.mark.parametrize(("kind", "level"), [(TurnedAway.BAD_REQUEST, "info"), (TurnedAway.QUEUE_FULL, "warning")])
def test_only_what_is_no_client_s_own_fault_is_a_warning(kind: TurnedAway, level: str) -> None:
    trip = Trip("POST", "/api/chat", "id", since_s=10.0, ended_s=10.1)
    trip.is_refused(kind, 400, "the reason")
    (line,) = lines(trip)
    assert (line["log_level"], line["outcome"], line["error"]) == (level, "refused", "the reason")
