"""The last requests and the last events as the dashboard's JSON, newest first. Monotonic times leave as ages."""

from __future__ import annotations

from typing import Any

from ollamad.fleet.happenings import Happening
from ollamad.fleet.tallies import Tallies
from ollamad.fleet.trip import Trip
from ollamad.routing.knowledge import Tally


def requests(tallies: Tallies, now_s: float) -> list[dict[str, Any]]:
    """How each ended, and where its time went."""
    return [_request(trip, now_s) for trip in reversed(tallies.last_requests)]


def events(tallies: Tallies, now_s: float) -> list[dict[str, Any]]:
    """What befell children and GPUs."""
    return [_event(happening, now_s) for happening in reversed(tallies.happenings)]


def _request(trip: Trip, now_s: float) -> dict[str, Any]:
    tally = trip.tally or Tally()
    return {
        "id": trip.id,
        "age_s": round(now_s - trip.ended_s, 3),
        "method": trip.method,
        "path": trip.path,
        "model": trip.model,
        "child": trip.child,
        "outcome": None if trip.outcome is None else trip.outcome.value,
        "status": trip.status,
        "attempts": trip.attempts,
        "reason": trip.reasons[-1] if trip.reasons else None,
        "queue_s": _rounded(trip.queue_s),
        "load_s": _rounded(tally.load_s),
        "first_byte_s": _rounded(trip.first_byte_s),
        "total_s": round(trip.total_s, 4),
        "sent_bytes": trip.sent_bytes,
        "prompt_tokens": tally.prompt_tokens,
        "output_tokens": tally.output_tokens,
        "tokens_per_s": None if trip.tokens_per_s is None else round(trip.tokens_per_s, 1),
    }


def _event(happening: Happening, now_s: float) -> dict[str, Any]:
    return {
        "age_s": round(now_s - happening.at_s, 3),
        "subject": happening.subject,
        "weight": happening.weight.value,
        "text": happening.text,
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 4)
