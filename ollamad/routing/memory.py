"""What routing remembers between decisions. Decisions read it; whoever carries them out writes it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from ollamad.routing.breaker import Breakers
from ollamad.routing.estimate import Rate
from ollamad.routing.knowledge import Knowledge
from ollamad.routing.prefixes import Prefixes
from ollamad.routing.request import Key, Request, Work

DEMAND_HALF_LIFE_S: Final = 600.0
KEYS_MAX: Final = 1024
"""Runners whose demand is remembered; clients can make up as many shapes as they like."""
EMBEDS_RECENT_S: Final = 60.0
REFUSED_S: Final = 30.0
"""A model that could not be loaded by its name alone is not tried so again for this long: it may not exist."""

LOADS_FAILED_MAX: Final = 3
"""After so many failed loads in a row no more are made for those who wait: they are sent, and fail as they may."""


class Policy(Enum):
    """How a child is chosen."""

    COST = "cost"
    """The one that is expected to give the first token soonest; requests wait here, not in a child."""
    LEAST_INFLIGHT = "least_inflight"
    ROUND_ROBIN = "round_robin"
    RANDOM = "random"
    STICKY = "sticky"
    """Each model has its child."""


@dataclass(frozen=True, slots=True)
class ModelRule:
    """What the operator asks for one model."""

    pin: bool = False
    """Never unloaded to make room for another."""
    min_replicas: int = 0
    max_replicas: int | None = None

    @property
    def stays(self) -> bool:
        """Whether a copy of it is to stay however long nobody asks for it."""
        return self.pin or self.min_replicas > 0


FREE: Final = ModelRule()


@dataclass(frozen=True, slots=True)
class Rules:
    """How to route, as configured."""

    policy: Policy = Policy.COST
    models: Mapping[str, ModelRule] = field(default_factory=dict)
    context_tokens: int = 4096
    """Of one slot."""
    affinity_slack: int = 4
    """A child that holds a prompt's beginning may have this many more requests than the least busy one, no more."""
    stale_s: float = 3.0
    """A GPU's sample that is older than this says nothing."""


@dataclass(frozen=True, slots=True)
class Line:
    """The requests that wait for one key."""

    count: int = 0
    waited_s: float = 0.0
    """All their ages together."""


NOBODY: Final = Line()


class Memory:
    """Learned values, demand, prefixes, breakers."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.knowledge = Knowledge()
        self.prefixes = Prefixes()
        self.breakers = Breakers()
        self.lines: dict[Key, Line] = {}
        """Who waits for what; written by `Admission`."""
        self.turns = 0
        """Requests sent so far, for taking turns."""
        self.last: dict[Key, str] = {}
        """The child that each key's last request went to."""
        self.sent_s: dict[str, float] = {}
        """When each child was last sent a request for a runner."""
        self.used_s: dict[tuple[str, int, str], float] = {}
        """When each runner (child, life, model) was last sent a request."""
        self._demand: dict[Key, Rate] = {}
        self._by_model: dict[str, dict[Key, Rate]] = {}
        self._embedded_s: dict[str, float] = {}
        self._refused_s: dict[Key, float] = {}
        self._loads_failed: dict[Key, int] = {}
        """In a row, on whatever child."""

    def rule(self, model: str) -> ModelRule:
        """What is asked for this model."""
        return self.rules.models.get(model, FREE)

    def arrived(self, request: Request, now_s: float) -> None:
        """A request for a runner has come."""
        key = request.key
        if key is None or request.model is None:
            return
        rate = self._demand.get(key)
        if rate is None:
            rate = self._demand[key] = Rate(DEMAND_HALF_LIFE_S, now_s)
            self._by_model.setdefault(request.model, {})[key] = rate
        rate.add(now_s)
        if request.work is Work.EMBED:
            self._embedded_s[request.model] = now_s
        if len(self._demand) > KEYS_MAX:
            self._forget(now_s)

    def sent(self, request: Request, child: str, life: int, slots: int, now_s: float) -> None:
        """It was sent."""
        self.turns += 1
        self.breakers.sent(child, life, request.model, now_s)
        if request.key is not None and request.model is not None:
            self.last[request.key] = child
            self.sent_s[child] = now_s
            self.used_s[child, life, request.model] = now_s
            if request.prefix:
                self.prefixes.sent((child, life, request.model), request.prefix, slots)

    def model_demand_per_s(self, model: str, now_s: float) -> float:
        """How often a model is asked for, in whatever shape."""
        rates = self._by_model.get(model)
        return sum(rate.per_s(now_s) for rate in rates.values()) if rates else 0.0

    def embeds(self, model: str, now_s: float) -> bool:
        """Whether embeddings are asked of it these days."""
        asked_s = self._embedded_s.get(model)
        return asked_s is not None and now_s - asked_s < EMBEDS_RECENT_S

    def models_asked(self, since_s: float) -> tuple[str, ...]:
        """The models that were asked for since then, in their plain shape."""
        return tuple(model for (model, shape), rate in self._demand.items() if not shape and rate.last_s >= since_s)

    def load_refused(self, key: Key, now_s: float) -> None:
        """A child says it can't be loaded, by the request's fault: let requests hear that from a child themselves."""
        self._refused_s[key] = now_s

    def load_failed(self, key: Key, now_s: float) -> None:
        """A load failed by a child's fault; after a few in a row the model is suspected, which may kill every child."""
        failed = self._loads_failed[key] = self._loads_failed.get(key, 0) + 1
        if failed >= LOADS_FAILED_MAX:
            del self._loads_failed[key]
            self.load_refused(key, now_s)

    def load_worked(self, key: Key) -> None:
        """It can be loaded."""
        self._refused_s.pop(key, None)
        self._loads_failed.pop(key, None)

    def is_refused(self, key: Key, now_s: float) -> bool:
        """Whether there is no use in loading it ahead of a request."""
        if not self._refused_s:
            return False
        refused_s = self._refused_s.get(key)
        return refused_s is not None and now_s - refused_s < REFUSED_S

    def keep(self, lives: Collection[tuple[str, int]]) -> None:
        """Forget what is known of other lives (child, its life's number) than these."""
        self.breakers.keep(lives)
        children = {child for child, _ in lives}
        self.sent_s = {child: at_s for child, at_s in self.sent_s.items() if child in children}
        self.used_s = {runner: at_s for runner, at_s in self.used_s.items() if runner[:2] in lives}

    def _forget(self, now_s: float) -> None:
        least = sorted(self._demand, key=lambda key: self._demand[key].per_s(now_s))
        for key in least[: KEYS_MAX // 4]:
            del self._demand[key]
            del self._by_model[key[0]][key]
        # Of earlier ones too: what is forgotten while it waits comes back here once it is sent.
        self.last = {key: child for key, child in self.last.items() if key in self._demand}
        self._loads_failed = {key: failed for key, failed in self._loads_failed.items() if key in self._demand}
        self._by_model = {model: rates for model, rates in self._by_model.items() if rates}
        self._refused_s = {key: at_s for key, at_s in self._refused_s.items() if now_s - at_s < REFUSED_S}
        self._embedded_s = {name: at_s for name, at_s in self._embedded_s.items() if now_s - at_s < EMBEDS_RECENT_S}
