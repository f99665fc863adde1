"""What the parts of the listener share: the counts of what its bounds are about, and what is known of each request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from aiohttp import web

from ollamad.access.addresses import Crowd
from ollamad.access.holder import Holder
from ollamad.config.schema import Proxy
from ollamad.errors import CapacityError, ClientError
from ollamad.fleet.bell import Bell

RETRY_AFTER_S: Final = 5


class Source(Protocol):
    """Where the bytes come from that are written to a client: paused while the client does not take them."""

    def pause(self) -> None:
        """Read no more for now."""

    def resume(self) -> None:
        """Read on."""

    def abort(self) -> None:
        """Nobody wants them any more."""


@dataclass(slots=True)
class Shared:
    """What all connections of the listener have in common."""

    look: Callable[[], Proxy]
    """Gives `[proxy]` as it is now: a reload may change it."""
    connections_possible: int
    """As many as there are file descriptors for."""
    connections: int = 0
    moved: Bell = field(default_factory=Bell)
    """Rung when a connection asks for the first time, and when one is gone."""
    crowd: Crowd = field(default_factory=Crowd)
    """Connections by address, those of trusted proxies left out."""
    kept_bytes: int = 0
    """Of request bodies that are kept now, so that they can be sent again."""

    @property
    def settings(self) -> Proxy:
        """The keys of `[proxy]`."""
        return self.look()

    @property
    def full(self) -> bool:
        """Whether there are more connections than there may be."""
        return self.connections > min(self.settings.connections_max, self.connections_possible)

    def keep(self, trip: Trip, size: int) -> None:
        """Count more of a kept body. Raises CapacityError where all of them would be too much."""
        if self.kept_bytes + size > self.settings.bodies_max_bytes:
            raise CapacityError(
                f"{self.kept_bytes} bytes of requests are kept already ([proxy] bodies_max_bytes); try again later",
                RETRY_AFTER_S,
            )
        self.kept_bytes += size
        trip.kept_bytes += size

    def let_go(self, trip: Trip) -> None:
        """A request is over."""
        self.kept_bytes -= trip.kept_bytes
        trip.kept_bytes = 0
        if trip.holder is not None:
            trip.holder.leaves()


@dataclass(slots=True)
class Trip:
    """What our listener knows of one request, beside what it says itself."""

    for_child: tuple[tuple[bytes, bytes], ...] = ()
    """Header fields for the child: whose request it is."""
    for_client: tuple[tuple[str, str], ...] = ()
    """Header fields for the response: what a browser must know."""
    kept_bytes: int = field(default=0)
    holder: Holder | None = None
    """Whose key it came with; None where no keys are asked for."""
    stranger: ClientError | None = None
    """What is wrong with the key that it came with, or came without."""


TRIP: Final = web.RequestKey("trip", Trip)


def trip_of(request: web.Request) -> Trip:
    """What our listener knows of a request."""
    return request[TRIP]
