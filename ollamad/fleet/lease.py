"""The right to send one request to one child, and the bounds of waiting for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from ollamad.routing.request import Request


@dataclass(slots=True, eq=False)
class Lease:
    """The right to send one request to one life of one child. Whoever streams says when the child is heard."""

    child: str
    life: int
    base_url: str
    waited_ms: int
    """From asking for the lease to having it."""
    model: str | None
    since_s: float
    request: Request
    reason: str = ""
    """Why this child, in few words."""
    kind: str = ""
    """What the child runs on."""
    cached: bool = False
    """Whether a slot there held the beginning of its prompt."""
    judged: bool = False
    """Whether it has been told how the request went."""
    heard_s: float | None = None
    held: bool = False
    """The client does not take what has come: nothing more is read from the child meanwhile."""
    longest_pause_s: float = 0.0
    """Between two pieces of the response."""
    may_move: Callable[[], bool] | None = None
    """Whether the request can be sent to another child now; None where it can't be sent again."""
    give_up: Callable[[str], None] | None = None
    """Ends the wait for the response; None where nothing has been sent yet."""

    def waits(self, give_up: Callable[[str], None]) -> None:
        """The request has been sent; this is how the wait for its response is ended, and why it was is told."""
        self.give_up = give_up

    def move(self, why: str) -> bool:
        """End the wait, so that another child is asked; gives whether it was. What has begun is never moved."""
        if self.heard_s is not None or self.give_up is None or self.may_move is None or not self.may_move():
            return False
        self.give_up(why)
        return True

    def heard(self) -> None:
        """A piece of the response has come: the request makes progress."""
        now_s = time.monotonic()
        if self.heard_s is not None and now_s - self.heard_s > self.longest_pause_s:
            self.longest_pause_s = now_s - self.heard_s
        self.heard_s = now_s

    def hold(self, *, held: bool) -> None:
        """The client has stopped taking what comes, or takes it again; that is no silence of the child's."""
        self.held = held
        if not held and self.heard_s is not None:
            self.heard_s = time.monotonic()


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of waiting."""

    waiting_max: int
    ready_wait_s: float
    """For any child to be ready."""
    wait_max_s: float
    """For a slot."""
