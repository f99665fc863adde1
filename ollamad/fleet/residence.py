"""What is loaded where, in which shape and since when: `/api/ps`, corrected by what ollamad itself has just done.

`/api/ps` is asked once a second, and says nothing of the options that a model was loaded with. A load that has
succeeded counts at once, even where the answer under way was given before; a model that was told to go is gone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from math import inf
from typing import Final

from ollamad.routing.snapshot import Resident

SETTLE_S: Final = 2.5
"""How long what we did goes before what `/api/ps` says: an answer may be a second old, an unload takes its time."""


@dataclass(slots=True)
class _Place:
    """What is remembered of one life of a child."""

    life: int
    shapes: dict[str, str]
    since_s: dict[str, float]
    loaded_s: dict[str, float]
    unloaded_s: dict[str, float]
    said: tuple[Resident, ...] | None = None
    """The answer of `/api/ps` that `found` was worked out from; None where something has happened since."""
    found: tuple[Resident, ...] = field(default=())
    good_until_s: float = 0.0
    """When something that we did has gone before `said` for long enough."""


class Residence:
    """The residents of every child, as routing sees them. Only the present life of each is remembered."""

    def __init__(self) -> None:
        self._places: dict[str, _Place] = {}

    def loaded(self, child: str, life: int, model: str, shape: str) -> None:
        """A load of ours has succeeded."""
        place = self._place(child, life)
        place.shapes[model] = shape
        place.loaded_s[model] = time.monotonic()
        place.unloaded_s.pop(model, None)
        place.said = None

    def unloaded(self, child: str, life: int, model: str) -> None:
        """An unload of ours was accepted, with nothing using the model."""
        place = self._place(child, life)
        place.unloaded_s[model] = time.monotonic()
        place.loaded_s.pop(model, None)
        place.said = None

    def of(self, child: str, life: int, said: tuple[Resident, ...]) -> tuple[Resident, ...]:
        """What this life of a child has loaded. `said`: by `/api/ps`. The same tuple as before where nothing is new."""
        place, now_s = self._place(child, life), time.monotonic()
        if said is place.said and now_s < place.good_until_s:
            return place.found
        found = tuple(self._found(place, said, now_s))
        present = {resident.model for resident in found}
        for model in place.since_s.keys() - present:
            del place.since_s[model]
            place.shapes.pop(model, None)
        did_s = (*place.loaded_s.values(), *place.unloaded_s.values())
        place.good_until_s = min((at_s + SETTLE_S for at_s in did_s if now_s - at_s < SETTLE_S), default=inf)
        place.said, place.found = said, found
        return found

    def _found(self, place: _Place, said: tuple[Resident, ...], now_s: float) -> Iterator[Resident]:
        just_loaded = {model for model, at_s in place.loaded_s.items() if now_s - at_s < SETTLE_S}
        gone = {model for model, at_s in place.unloaded_s.items() if now_s - at_s < SETTLE_S}
        for resident in said:
            if resident.model not in gone:
                just_loaded.discard(resident.model)
                yield self._seen(place, resident, now_s)
        for model in just_loaded:
            yield self._seen(place, Resident(model, None, None, None), now_s)

    @staticmethod
    def _seen(place: _Place, resident: Resident, now_s: float) -> Resident:
        since_s = place.since_s.setdefault(resident.model, now_s)
        return replace(resident, since_s=since_s, shape=place.shapes.get(resident.model, ""))

    def _place(self, child: str, life: int) -> _Place:
        place = self._places.get(child)
        if place is None or place.life != life:
            place = self._places[child] = _Place(life, {}, {}, {}, {})
        return place
