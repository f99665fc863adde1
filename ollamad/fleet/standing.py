"""How the fleet stands, for systemd: how many children are ready, and whether all that should move does.

What moves: each child's driver answers what comes into its mailbox; whoever watches a process asks it again and again;
telemetry samples. None of them waits for anything without a deadline, so one that stands still is a fault of ours that
only a new start mends.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from ollamad.fleet.fleet import Fleet
from ollamad.supervision.state import Tick
from ollamad.systemd.presence import Standing

SLACK_S: Final = 10.0
"""How much longer than it has to anything may take: the machine may be busy, or have been asleep."""
PROBES: Final = 4
"""Probes that one look at a child can take: its version, what it has loaded, and once more each."""
DRIVER_CALLS: Final = 3
"""Calls of the driver in one round of telemetry: one still in progress, which GPUs there are, and a sample."""


class Standings:
    """Looks at one fleet. Each look asks the children's drivers to show by the next one that they live."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._asked_s: dict[str, float] = {}
        """When a driver was asked that has not answered yet."""

    def look(self) -> Standing:
        """How it stands now."""
        snapshot = self._fleet.snapshot()
        return Standing(
            children=len(snapshot.children),
            ready=sum(child.routable for child in snapshot.children),
            streams=sum(child.in_flight for child in snapshot.children),
            waiting=snapshot.waiting,
            still=tuple(self._still(time.monotonic())),
        )

    def _still(self, now_s: float) -> Iterator[str]:
        config = self._fleet.config
        look_s = config.supervision.idle_interval_s + PROBES * config.supervision.probe_timeout_s + SLACK_S
        for name, child in self._fleet.children.items():
            if now_s - self._answered_s(name, now_s) > SLACK_S:
                yield name
            elif child.known.looked_s is not None and now_s - child.known.looked_s > look_s:
                yield f"watch of {name}"
        round_s = config.gpus.sample_interval_s + DRIVER_CALLS * config.gpus.call_timeout_s + SLACK_S
        turned_s = self._fleet.devices.turned_s
        if turned_s is not None and now_s - turned_s > round_s:
            yield "telemetry"

    def _answered_s(self, name: str, now_s: float) -> float:
        """Since when a driver owes an answer; now where it owes none, and then it is asked again."""
        child = self._fleet.children[name]
        asked_s = self._asked_s.get(name)
        if asked_s is not None and child.turned_s < asked_s:
            return asked_s
        self._asked_s[name] = now_s
        child.tell(Tick())
        return now_s
