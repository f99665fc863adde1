"""Times leave the process as ages: no other process shares the monotonic clock."""

from __future__ import annotations


def age_s(then_s: float | None, now_s: float) -> float | None:
    """How long ago that was, to the millisecond; None where it is not known, or never was."""
    return None if then_s is None else round(now_s - then_s, 3)
