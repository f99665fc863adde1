"""What a child is started with: the program, its whole environment, and a port."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from ollamad.config.checks import expand
from ollamad.config.schema import Config
from ollamad.fleet.places import store_of
from ollamad.fleet.plan import ChildPlan
from ollamad.ollama.environment import Host, Placement, child_environment, context_length
from ollamad.ollama.ports import free_port


class Outfit:
    """Dresses children by the configuration in force."""

    def __init__(
        self, config: Config, plans: Iterable[ChildPlan], instance: str, ports: Callable[[], Mapping[str, int]]
    ) -> None:
        """`ports` gives who has which port now."""
        home = str(Path.home())
        self._config = config
        self._ports = ports
        self.home = expand(config.ollama.home, home)
        self._host = Host(
            instance=instance,
            home=str(self.home),
            store=str(expand(config.models.path, home)),  # with stores of their own, each child gets another
            context_length=context_length(config.ollama.context_length, tuple(plan.vram_bytes for plan in plans)),
        )

    @property
    def context_length(self) -> int:
        """Tokens of one slot, alike on all children."""
        return self._host.context_length

    def environment(self, plan: ChildPlan, port: int) -> Mapping[str, str]:
        """Every variable of this child."""
        placement = Placement(plan.id, plan.uuids_by_variable, port)
        host = replace(self._host, store=str(store_of(self._config.models, plan.id, str(Path.home()))))
        return child_environment(os.environ, self._config.ollama, host, placement)

    def claim_port(self, claimant: str) -> int:
        """A free port that no sibling of `claimant` has. Raises StartError."""
        others = frozenset(port for child, port in self._ports().items() if child != claimant)
        return free_port(self._config.ollama.base_port, others)
