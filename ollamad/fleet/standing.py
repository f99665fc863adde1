"""How the fleet stands, for systemd: how many children are ready, and whether all that should move does.

What moves: each child's driver answers what comes into its mailbox; whoever watches a process asks it again and again;
telemetry samples. None of them waits for anything without a deadline, so one that stands still is a fault of ours that
only a new start mends.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, Protocol

from ollamad.config.schema import Config
from ollamad.fleet.known import Known
from ollamad.routing.snapshot import Snapshot
from ollamad.supervision.state import Event, Tick
from ollamad.systemd.presence import Standing

SLACK_S: Final = 10.0
"""How much longer than it has to anything may take: the machine may be busy, or have been asleep."""
PROBES: Final = 4
"""Probes that one look at a child can take: its version, what it has loaded, and once more each."""
DRIVER_CALLS: Final = 3
"""Calls of the driver in one round of telemetry: one still in progress, which GPUs there are, and a sample."""


class Driver(Protocol):
    """What is asked of a child."""

    @property
    def turned_s(self) -> float:
        """When its driver last took something out of its mailbox."""

    @property
    def known(self) -> Known:
        """What is known of its process."""

    def tell(self, event: Event) -> None:
        """Put something into its mailbox."""


class Looked(Protocol):
    """What is looked at: a Fleet."""

    @property
    def config(self) -> Config:
        """The configuration in force."""

    @property
    def children(self) -> Mapping[str, Driver]:
        """All children."""

    @property
    def telemetry_turned_s(self) -> float | None:
        """When telemetry last ended a round; None before its first."""

    def snapshot(self) -> Snapshot:
        """What is true now."""


class Standings:
    """Looks at one fleet. Each look asks the children's drivers to show by the next one that they live."""

    def __init__(self, fleet: Looked) -> None:
        self._fleet = fleet
        self._asked_s: dict[str, float] = {}
        """When a driver was asked that has not answered yet."""

    def look(self, now_s: float) -> Standing:
        """How it stands now. Times are seconds on the monotonic clock."""
        snapshot = self._fleet.snapshot()
        return Standing(
            children=len(snapshot.children),
            ready=sum(child.routable for child in snapshot.children),
            streams=sum(child.in_flight for child in snapshot.children),
            waiting=snapshot.waiting,
            still=tuple(self._still(now_s)),
        )

    def _still(self, now_s: float) -> Iterator[str]:
        config = self._fleet.config
        supervision = config.supervision
        pause_s = max(supervision.probe_interval_s, supervision.resident_interval_s, supervision.idle_interval_s)
        look_s = pause_s + PROBES * supervision.probe_timeout_s + SLACK_S
        for name, child in self._fleet.children.items():
            if now_s - self._answered_s(name, now_s) > SLACK_S:
                yield name
            elif child.known.looked_s is not None and now_s - child.known.looked_s > look_s:
                yield f"watch of {name}"
        round_s = config.gpus.sample_interval_s + DRIVER_CALLS * config.gpus.call_timeout_s + SLACK_S
        turned_s = self._fleet.telemetry_turned_s
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
