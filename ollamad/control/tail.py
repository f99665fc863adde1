"""Following a window of last lines. Pure: what is new between two looks at it."""

from __future__ import annotations

from collections.abc import Sequence


def fresh(before: Sequence[str], now: Sequence[str]) -> tuple[Sequence[str], bool]:
    """The lines of `now` that came after those of `before`, and whether some may have passed unseen between them.

    Both are windows on one growing list, of which the oldest lines are dropped. A line that repeats makes more than
    one reading possible; the one with the fewest new lines is taken.
    """
    for common in range(min(len(before), len(now)), 0, -1):
        if list(before[-common:]) == list(now[:common]):
            return now[common:], False
    return now, bool(before) and bool(now)
