"""A running average that says how sure it is."""

from __future__ import annotations

from math import exp, log
from typing import Final

import msgspec

ALPHA: Final = 0.15
"""Weight of the newest value once there are enough: some ten values are remembered, more or less."""

YOUTH_S: Final = 30.0
"""A stream that has just begun is judged as if it had been silent for this long before: one event is no rate."""

SILENCE: Final = 3.0
"""Minus the logarithm of 0.05."""


class Estimate(msgspec.Struct):
    """An exponentially weighted mean and variance; the first values count as in a plain mean."""

    mean: float = 0.0
    variance: float = 0.0
    count: int = 0

    def add(self, value: float) -> None:
        """Take one value in."""
        self.count += 1
        weight = max(ALPHA, 1.0 / self.count)
        delta = value - self.mean
        self.mean += weight * delta
        self.variance = (1.0 - weight) * (self.variance + weight * delta * delta)


class Rate:
    """Events a second, those long ago counting less and less."""

    __slots__ = ("_at_s", "_decay", "_from_s", "_mass")

    def __init__(self, half_life_s: float, now_s: float) -> None:
        self._decay = log(2) / half_life_s
        self._from_s = now_s - YOUTH_S
        self._mass = 0.0
        self._at_s = now_s

    @property
    def last_s(self) -> float:
        """When the last event was."""
        return self._at_s

    def add(self, now_s: float) -> None:
        """One event, now."""
        self._mass = self._decayed(now_s) + 1.0
        self._at_s = now_s

    def per_s(self, now_s: float) -> float:
        """The rate now: a steady stream of r a second reads as r, soon after it began too.

        And soon after it ended: nothing for t seconds bounds the rate at 3 / t, nineteen times in twenty.
        """
        rate = self._decayed(now_s) * self._decay / (1.0 - exp(-self._decay * (now_s - self._from_s)))
        silent_s = now_s - self._at_s
        return min(rate, SILENCE / silent_s) if silent_s > 0 else rate

    def _decayed(self, now_s: float) -> float:
        return self._mass * exp(-self._decay * (now_s - self._at_s))
