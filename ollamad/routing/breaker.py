"""Who fails again and again gets no more requests for a while: it fails fast, and looks idle by it.

That is a child, or a model on a child. After some failures in a row a breaker opens. When its time is over one request
may try (half open): if that succeeds the breaker closes, if it fails it opens for twice as long.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Final

FAILURES_MAX: Final = 3
OPEN_S: Final = 5.0
OPEN_MAX_S: Final = 120.0
PROBE_S: Final = 30.0
"""A probe that has not come back after this long is taken for lost, and another may try."""


@dataclass(frozen=True, slots=True)
class Breaker:
    """What one breaker remembers."""

    failures: int = 0
    """In a row."""
    opened_s: float | None = None
    open_for_s: float = 0.0
    probing_since_s: float | None = None

    def lets_through(self, now_s: float) -> bool:
        """Whether a request may be sent."""
        if self.opened_s is None:
            return True
        if now_s < self.opened_s + self.open_for_s:
            return False
        return self.probing_since_s is None or now_s >= self.probing_since_s + PROBE_S

    def sent(self, now_s: float) -> Breaker:
        """A request was sent: where this was open, it is the probe."""
        return self if self.opened_s is None else replace(self, probing_since_s=now_s)

    def gave_up(self) -> Breaker:
        """The request was taken back by its client, which says nothing of the child: another may probe."""
        return self if self.opened_s is None else replace(self, probing_since_s=None)

    def failed(self, now_s: float, weight: int) -> Breaker:
        """A request failed. `weight`: as how many it counts."""
        failures = self.failures + weight
        if failures < FAILURES_MAX:
            return replace(self, failures=failures)
        open_for_s = min(OPEN_MAX_S, max(OPEN_S, 2 * self.open_for_s))
        return Breaker(failures, now_s, open_for_s)


CLOSED: Final = Breaker()
_Name = tuple[str, int] | tuple[str, int, str | None]
"""A child's life, or a model on it."""


class Breakers:
    """All breakers that are not closed and forgotten: by child's life, and by model on a child's life."""

    def __init__(self) -> None:
        self._breakers: dict[_Name, Breaker] = {}
        self._models_failed: dict[tuple[str, int], set[str]] = {}

    def why_not(self, child: str, life: int, model: str | None, now_s: float) -> str | None:
        """Why a request for this model can't go there now; None when it can."""
        if not self._breakers:
            return None
        if not self._breakers.get((child, life), CLOSED).lets_through(now_s):
            return "failed several requests in a row; rests"
        if not self._breakers.get((child, life, model), CLOSED).lets_through(now_s):
            return "failed several requests for this model in a row; rests"
        return None

    def sent(self, child: str, life: int, model: str | None, now_s: float) -> None:
        """A request went there."""
        for name in _names(child, life, model):
            if name in self._breakers:
                self._breakers[name] = self._breakers[name].sent(now_s)

    def succeeded(self, child: str, life: int, model: str | None) -> None:
        """It has begun a good answer."""
        self._breakers.pop((child, life), None)
        self._breakers.pop((child, life, model), None)
        self._models_failed.pop((child, life), None)

    def gave_up(self, child: str, life: int, model: str | None) -> None:
        """Its client left before it was known how it would end."""
        for name in _names(child, life, model):
            if name in self._breakers:
                self._breakers[name] = self._breakers[name].gave_up()

    def failed(self, child: str, life: int, model: str | None, now_s: float, weight: int = 1) -> None:
        """It failed. One bad model does not close a child to the others: two different ones that fail do."""
        self._add((child, life, model), now_s, weight)
        failed = self._models_failed.setdefault((child, life), set())
        failed.add(str(model))
        if len(failed) > 1:
            self._add((child, life), now_s, weight)

    def keep(self, lives: Collection[tuple[str, int]]) -> None:
        """Forget all that was held against other lives than these: they are over."""
        self._breakers = {name: kept for name, kept in self._breakers.items() if name[:2] in lives}
        self._models_failed = {life: models for life, models in self._models_failed.items() if life in lives}

    def _add(self, name: _Name, now_s: float, weight: int) -> None:
        self._breakers[name] = self._breakers.get(name, CLOSED).failed(now_s, weight)


def _names(child: str, life: int, model: str | None) -> tuple[_Name, _Name]:
    return (child, life), (child, life, model)
