"""What every handler of one simulated server has at hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import aiohttp

from ollamad.sim.clock import Clock
from ollamad.sim.faults import Faults
from ollamad.sim.model import Model, read_model
from ollamad.sim.names import parse
from ollamad.sim.scheduler import Scheduler
from ollamad.sim.settings import Settings
from ollamad.sim.store import Store


@dataclass(frozen=True, slots=True)
class Site:
    """The parts of one server."""

    settings: Settings
    store: Store
    scheduler: Scheduler
    faults: Faults
    clock: Clock
    client: aiohttp.ClientSession
    """To ask registries with."""
    leave: Callable[[], None]
    """What the fault `exit` does."""

    def model(self, text: str) -> Model:
        """A model by what a request calls it. Raises FileNotFoundError; ValueError where that is no name."""
        name = parse(text)
        if not name.valid:
            raise ValueError(text)
        return read_model(self.store, self.store.existing(name))
