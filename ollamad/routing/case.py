"""One request's case before the cost policy: what is the same for all children, and how each of them stands to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ollamad.routing.decision import Standing, Terms
from ollamad.routing.memory import NOBODY, Line, Memory
from ollamad.routing.queueing import Source
from ollamad.routing.request import Key, Request, Work
from ollamad.routing.scorers import prefill_s, pressure_s, standing_of
from ollamad.routing.snapshot import ChildView, Snapshot

ALMOST: Final = 0.1
"""A load that takes longer than expected is taken to need this share of its time still."""

STUCK: Final = 4.0
"""Where no slot of a full runner has freed for this many times as long as a request usually holds one, usually says
nothing: a runner may be wedged, or keep for ever the slot of a client that left, as Ollama 0.9.3 does now and then."""


@dataclass(frozen=True, slots=True)
class Case:
    """A request, and all that a decision on it is based on."""

    request: Request
    model: str
    key: Key
    snapshot: Snapshot
    memory: Memory
    tokens: float
    """Of its prompt, as far as that can be told from its bytes."""
    embeds: bool
    """Whether embeddings are asked of this model too."""
    place: int
    """How many wait before it."""

    def slots(self, child: ChildView) -> int:
        """How many slots there are for its kind of work: one is kept for embeddings where they are asked for."""
        slots = self.memory.knowledge.slots(self.model, child.slots)
        return slots - 1 if self.embeds and slots > 1 and self.request.work is Work.GENERATE else slots

    def service_s(self, child: ChildView) -> float:
        """How long it will hold a slot."""
        embeds = self.request.work is Work.EMBED
        return max(0.001, self.memory.knowledge.service_s(self.model, child.kind, embeds=embeds) / child.weight)

    def load_s(self, child: ChildView) -> float:
        """How long its model takes to load."""
        return self.memory.knowledge.load_s(self.model, child.kind, self.snapshot.taken_at_s) / child.weight

    def load_left_s(self, child: ChildView) -> float:
        """Until the load that is under way on a child is over."""
        load = child.load
        if load is None:
            return 0.0
        now_s = self.snapshot.taken_at_s
        takes_s = self.memory.knowledge.load_s(load.model, child.kind, now_s) / child.weight
        return max(ALMOST * takes_s, takes_s - (now_s - load.since_s))

    @property
    def line(self) -> Line:
        """Those who wait for the same."""
        return self.memory.lines.get(self.key, NOBODY)

    def standings(self, children: Sequence[ChildView]) -> list[Standing]:
        """How each child stands to it."""
        limits: dict[int, int] = {}
        found = []
        for child in children:
            limit = limits.get(child.slots)
            if limit is None:
                limit = limits[child.slots] = self.slots(child)
            found.append(standing_of(self.request, child, limit))
        return found

    def source(self, child: ChildView, standing: Standing) -> Source:
        """The slots of a child that has the model, or is loading it, as those who wait see them."""
        slots, service_s = self.slots(child), self.service_s(child)
        if standing is Standing.LOADING:
            return Source(self.load_left_s(child), slots, slots / service_s)
        now_s = self.snapshot.taken_at_s
        still_s = now_s - self.memory.used_s.get((child.id, child.life, self.model), now_s)
        return Source(0.0, 0, slots / service_s if still_s < STUCK * service_s else 1 / still_s)

    def terms(
        self,
        child: ChildView,
        standing: Standing,
        *,
        wait_s: float,
        load_s: float = 0.0,
        evict_s: float = 0.0,
        evicts: tuple[str, ...] = (),
    ) -> Terms:
        """All terms of one child."""
        per_s = self.memory.knowledge.prefill_per_s(self.model, child.kind) * child.weight
        prefill = prefill_s(self.request, child, per_s, self.tokens, self.memory)
        fresh_s = self.snapshot.taken_at_s - self.memory.rules.stale_s
        pressure = pressure_s(self.request, child, self.tokens / per_s, fresh_s)
        return Terms(child.id, standing, wait_s, load_s, evict_s, prefill, pressure, evicts)
