"""An average that forgets: of readings that come at uneven times, the newest counting most. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Smoothed:
    """The average, and when its last reading was."""

    value: float
    at_s: float

    def with_reading(self, value: float, at_s: float, time_constant_s: float) -> Smoothed:
        """The average with one more reading. One that stays the same is reached to 63 % after `time_constant_s`.

        A reading that is no newer than the last changes nothing.
        """
        if at_s <= self.at_s:
            return self
        share = 1.0 - math.exp(-(at_s - self.at_s) / time_constant_s)
        return Smoothed(self.value + share * (value - self.value), at_s)
