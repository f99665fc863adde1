"""The longest usual pause in each model's streams: what silence is held against before it is called a hang."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

MODELS_MAX: Final = 1000
FADE: Final = 0.95
"""How much of what was usual is left after each stream that paused less."""


class Pauses:
    """Learns from every stream that ends."""

    def __init__(self) -> None:
        self._usual_s: OrderedDict[str, float] = OrderedDict()

    def note(self, model: str, longest_s: float) -> None:
        """A stream of this model has ended whose longest pause was this."""
        self._usual_s[model] = max(longest_s, FADE * self._usual_s.get(model, 0.0))
        self._usual_s.move_to_end(model)
        if len(self._usual_s) > MODELS_MAX:
            self._usual_s.popitem(last=False)

    def usual_s(self) -> Mapping[str, float]:
        """By model."""
        return self._usual_s
