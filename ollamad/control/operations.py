"""What can be done to a running daemon: the seam between this face and the services that do it.

Each method that takes long is told whom to `tell`: it hands over its progress as small mappings of facts, of which
`step` says what happens and `child` to whom; all is JSON.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ollamad.access.keyring import Keyring
from ollamad.fleet.tape import Missed
from ollamad.routing.snapshot import Snapshot

Tell = Callable[[Mapping[str, object]], None]


class Operations(Protocol):
    """The children's. A name that is none raises UnknownChild; what can't be done to its end, OperationFailed."""

    def snapshot(self) -> Snapshot:
        """What is true now."""

    def drain(self, child: str) -> None:
        """Give it no new requests; it stops once those that it has are done."""

    def undrain(self, child: str) -> None:
        """Take it into use again."""

    def restart(self, child: str) -> None:
        """Drain it, then a new process. Returns at once."""

    def reset(self, child: str) -> None:
        """Forget its deaths: it leaves `failed`, and is started now."""

    async def rolling_restart(self, tell: Tell) -> None:
        """Restart one child after the other, each ready again before the next goes."""

    async def reload(self, tell: Tell) -> None:
        """Read the configuration again and apply what differs. Raises ConfigError; nothing has changed then."""

    def lines(self, child: str) -> Sequence[str]:
        """The last lines that it printed, oldest first, as many as are kept."""

    def follow(self, child: str) -> AsyncIterator[str | Missed]:
        """The same, then each line as it comes, until it is no child any more."""

    def explain(self, model: str) -> Mapping[str, Any]:
        """What would be decided now on a request for this model, and how each child stands to it.

        `{"verdict": "send", "child": "gpu0", "reason": "…", "expected_s": 0.4, "children": {"gpu0": "…", …}}`; null is
        expected where nothing that is under way will give it a slot.
        """

    async def pull(self, model: str, tell: Tell, *, insecure: bool) -> None:
        """Get a model from its registry, for all children; joins a download that is under way."""

    async def load(self, model: str, children: Sequence[str], keep_alive: int | str | None, tell: Tell) -> None:
        """Load a model on these children, or where routing wants it; `keep_alive` is Ollama's."""

    async def sync(self, tell: Tell) -> None:
        """Make all stores equal."""

    async def prune(self, tell: Tell, *, dry_run: bool, now: bool) -> None:
        """Take away what no model needs; with `dry_run` only say what that is, with `now` also what is young."""


class Demo(Protocol):
    """What can be broken and mended by hand in a demo."""

    def state(self) -> Mapping[str, Any]:
        """What is broken now, and how much traffic there is."""

    async def do(self, act: str, target: str | None, value: str | None) -> str:
        """Break or mend something; gives what was done, for people. Raises ClientError, OperationFailed."""


@dataclass(frozen=True, slots=True)
class Services:
    """All that this face shows and steers."""

    operations: Operations
    status: Callable[[], Mapping[str, Any]]
    """The document of `GET /status`, of this moment."""
    about: Callable[[], Mapping[str, Any]]
    """What is true of the daemon as a process: where it listens, its pid, for how long it runs."""
    keyring: Keyring
    """The API keys."""
    demo: Demo | None = None
    """None where the daemon is no demo."""
