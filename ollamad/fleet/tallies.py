"""What is counted: requests by how they ended, what they waited for, and deaths by cause. The one owner of every count.

Counts only grow, from the start of the daemon. Nothing here knows how they are shown; `status/metrics.py` does. Labels
are bounded: outcomes and causes are enums, children are the configured ones, and a model is named only once a child has
answered with it, up to a number; all others are OTHER. So no client can create a series by inventing a name.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from ollamad.errors import TurnedAway
from ollamad.fleet.happenings import Happening
from ollamad.fleet.trip import Outcome, Trip
from ollamad.supervision.cause import Cause

OTHER: Final = "other"
"""In place of the name of a model that no child is known to have, and of all past the bound."""
NONE: Final = ""
"""In place of a name where there is none: a request that needs no model, or that reached no child."""

WAITS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
"""A free slot is had in under a millisecond, a first byte from a warm model in under 100 ms; a load takes minutes."""
GAPS_S: Final = (0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5)
"""Between tokens: the inverse of RATES, finer where it is felt."""
RATES: Final = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 40.0, 60.0, 80.0, 100.0, 150.0, 200.0, 300.0, 500.0, 1000.0)
"""Tokens per second: a reader follows 5 to 10, a large model on a good GPU gives 30, a small one hundreds."""
REASONS_MAX: Final = 20
"""There are fewer; should one ever carry a figure, it costs no series."""
DURATIONS_S: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)

LOOKS: Final = frozenset({"GET", "HEAD"})


class Histogram:
    """Observations sorted into buckets; the bounds are upper ones, inclusive, ascending."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """In each bucket alone, not cumulated; the last is for what is over every bound."""
        self.total = 0.0
        """The sum of all observations."""

    def observe(self, value: float) -> None:
        """Count one."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class ByModel:
    """One histogram for each model that has had an observation."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.all: dict[str, Histogram] = {}

    def observe(self, model: str, value: float) -> None:
        """Count one."""
        if model not in self.all:
            self.all[model] = Histogram(self._bounds)
        self.all[model].observe(value)


class SyncTally:
    """What has been done to make stores equal; told by whoever does it."""

    def __init__(self) -> None:
        self.rounds: Counter[bool] = Counter()
        """Over all stores, by whether all went well."""
        self.last_good_s: float | None = None
        """When the last one ended that did, on the monotonic clock."""
        self.blobs: Counter[str] = Counter()
        """Brought into a store, by the way: `linked`, `reflinked`, `copied`."""
        self.copied_bytes = 0

    def round_over(self, *, good: bool) -> None:
        """A round over all stores has ended."""
        self.rounds[good] += 1
        if good:
            self.last_good_s = time.monotonic()

    def brought(self, blobs: Mapping[str, int], copied_bytes: int) -> None:
        """So many blobs have come into a store."""
        self.blobs.update(blobs)
        self.copied_bytes += copied_bytes


class Tallies:
    """Told by one-line calls where things happen; read by the status face."""

    def __init__(self, *, models_max: int, requests_kept: int, events_kept: int, keys_max: int = 0) -> None:
        self._models_max = models_max
        self._keys_max = keys_max
        self._keys: set[str] = set()
        self._models: dict[str, None] = {}
        self.requests: Counter[tuple[str, str, Outcome]] = Counter()
        """By model, child and outcome."""
        self.queue_s = ByModel(WAITS_S)
        """From asking for a child to having one."""
        self.first_byte_s = ByModel(WAITS_S)
        """From having a child to the first byte of its response: load, prompt and first token."""
        self.duration_s = ByModel(DURATIONS_S)
        """All of a request that a child answered, waiting included."""
        self.tokens_per_s = ByModel(RATES)
        """Generated, of each response that was long enough to tell by."""
        self.longest_pause_s = ByModel(WAITS_S)
        """The longest silence within a response."""
        self.inter_token_s = ByModel(GAPS_S)
        """The mean time between two tokens of each streamed response that was long enough to tell by."""
        self.load_s = ByModel(DURATIONS_S)
        """Loads that ollamad itself has made."""
        self.loads_failed: Counter[str] = Counter()
        """By child."""
        self.prompt_tokens: Counter[str] = Counter()
        """By model, as the children counted them."""
        self.output_tokens: Counter[str] = Counter()
        self.by_key: Counter[tuple[str, Outcome]] = Counter()
        """Requests that came with an API key, by its name and outcome."""
        self.output_tokens_by_key: Counter[str] = Counter()
        self.decisions: Counter[str] = Counter()
        """Requests given to a child, by why it was that child."""
        self.response_bytes: Counter[str] = Counter()
        """Sent to clients, by model."""
        self.sync = SyncTally()
        self.retries = 0
        """Attempts after the first."""
        self.refusals: Counter[TurnedAway] = Counter()
        self.deaths: Counter[tuple[str, Cause]] = Counter()
        self.last_requests: deque[Trip] = deque(maxlen=requests_kept)
        """Those that ended last, oldest first; without those that only looked, as monitors do all day."""
        self.happenings: deque[Happening] = deque(maxlen=events_kept)
        """What has befallen children and GPUs, oldest first."""

    @property
    def models(self) -> tuple[str, ...]:
        """The models that are labels of their own."""
        return tuple(self._models)

    def meet(self, model: str) -> None:
        """A child has this model: it may be a label, while there is room."""
        if model not in self._models and len(self._models) < self._models_max:
            self._models[model] = None

    def label(self, model: str | None) -> str:
        """What a model is counted under."""
        if model is None:
            return NONE
        return model if model in self._models else OTHER

    def ended(self, trip: Trip) -> None:
        """A request is over."""
        model = self.label(trip.model)
        self.requests[model, trip.child or NONE, trip.outcome or Outcome.CRASHED] += 1
        self.retries += max(0, trip.attempts - 1)
        if trip.queue_s is not None:
            self.queue_s.observe(model, trip.queue_s)
        if trip.first_byte_s is not None:
            self.first_byte_s.observe(model, trip.first_byte_s)
            self.duration_s.observe(model, trip.total_s)
            self.response_bytes[model] += trip.sent_bytes
        self._count_tokens(model, trip)
        if trip.key is not None:
            self._count_key(self._key_label(trip.key), trip)
        for reason in trip.reasons:
            room = reason in self.decisions or len(self.decisions) < REASONS_MAX
            self.decisions[reason if room else OTHER] += 1
        if trip.turned_away is not None:
            self.refusals[trip.turned_away] += 1
        if trip.outcome is not Outcome.SERVED or trip.method not in LOOKS:
            self.last_requests.append(trip)

    def paused(self, model: str, longest_s: float) -> None:
        """A response is over; for so long it was silent at most."""
        self.longest_pause_s.observe(self.label(model), longest_s)

    def loaded(self, model: str, took_s: float) -> None:
        """A load that ollamad made has worked."""
        self.meet(model)
        self.load_s.observe(self.label(model), took_s)

    def load_failed(self, child: str) -> None:
        """A load that ollamad made has not."""
        self.loads_failed[child] += 1

    def died(self, child: str, cause: Cause) -> None:
        """A process of a child ended although nobody had asked for it."""
        self.deaths[child, cause] += 1

    def _count_tokens(self, model: str, trip: Trip) -> None:
        if trip.tally is None:
            return
        self.prompt_tokens[model] += trip.tally.prompt_tokens or 0
        self.output_tokens[model] += trip.tally.output_tokens or 0
        if trip.tokens_per_s is not None:
            self.tokens_per_s.observe(model, trip.tokens_per_s)
        if trip.inter_token_s is not None:
            self.inter_token_s.observe(model, trip.inter_token_s)

    def _key_label(self, name: str) -> str:
        """As many names as there may be keys at once; those of keys that came after revoked ones are one."""
        if name not in self._keys and len(self._keys) < self._keys_max:
            self._keys.add(name)
        return name if name in self._keys else OTHER

    def _count_key(self, label: str, trip: Trip) -> None:
        self.by_key[label, trip.outcome or Outcome.CRASHED] += 1
        if trip.tally is not None:
            self.output_tokens_by_key[label] += trip.tally.output_tokens or 0

    def happened(self, happenings: Iterable[Happening]) -> None:
        """Something that an operator would want to see."""
        self.happenings.extend(happenings)
