"""How much more this host can take, in one line: what HAProxy's `agent-check` asks for.

The words are HAProxy's (configuration manual, "agent-check"): `up` and `down` are what the agent found, `ready` and
`drain` what an administrator would want, and a percentage is the share of the server's weight that it should have.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, cast

from ollamad.routing.snapshot import Snapshot
from ollamad.status.view import is_ready

LEAST_PERCENT: Final = 1
"""Of a host that is ready but full: 0 would drain it, and it still queues more fairly than a host that is gone."""


def headroom_percent(snapshot: Snapshot) -> int:
    """The free share of all slots of all children, those that are down included; 0 where no request can be served.

    A host that lost half its GPUs can take half as much; one whose queue holds requests has none left. In quarters,
    rounded up: where models are hashed onto hosts, each new weight moves some to where they must be loaded first.
    """
    if not is_ready(snapshot):
        return 0
    slots = sum(child.slots for child in snapshot.children)
    free = sum(max(0, child.slots - child.in_flight) for child in snapshot.children if child.routable)
    quarters = -(-4 * max(0, free - snapshot.waiting) // slots)
    return max(LEAST_PERCENT, 25 * quarters)


def agent_line(snapshot: Snapshot) -> bytes:
    """The answer to one agent check, its newline included."""
    if snapshot.stopping:
        return b"drain\n"
    percent = headroom_percent(snapshot)
    return f"ready up {percent}%\n".encode() if percent else b"down#no child is ready\n"


class AgentProtocol(asyncio.Protocol):
    """Tells whoever connects, and closes: an agent check sends nothing that has to be read."""

    def __init__(self, look: Callable[[], Snapshot]) -> None:
        self._look = look

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Write the line and be done."""
        stream = cast("asyncio.WriteTransport", transport)  # uvloop's is no subclass of it
        stream.write(agent_line(self._look()))
        stream.close()
