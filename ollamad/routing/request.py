"""What routing knows of a request."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Need(Enum):
    """What a request asks of a child."""

    RUNNER = "runner"
    """A loaded model and one of its slots."""
    STORE = "store"
    """To change the shared store. Ollama serialises changes only within one process: all go to the first child."""
    ANY = "any"
    """An answer that any child can give."""


class Work(Enum):
    """What a runner is asked to do."""

    GENERATE = "generate"
    """Seconds to minutes in a slot."""
    EMBED = "embed"
    """Milliseconds in a slot, and many of them."""
    UNLOAD = "unload"
    """To end: no slot."""


class Priority(Enum):
    """A request's share of the slots that its model has, against other requests for it. None is ever starved."""

    HIGH = 4.0
    NORMAL = 1.0
    LOW = 0.25


@dataclass(frozen=True, slots=True)
class Request:
    """One request, as far as a decision on it depends on it."""

    need: Need
    model: str | None = None
    """Canonical name; None where the request names none, or none that could be read."""
    tried: frozenset[tuple[str, int]] = frozenset()
    """Lives (child, its life's number) that answered this very request with a failure of theirs."""
    work: Work = Work.GENERATE
    shape: str = ""
    """The options that a running model must have been loaded with, as JSON; empty where they are the child's own."""
    client: str = ""
    """Whose it is, for fairness."""
    priority: Priority = Priority.NORMAL
    patience_s: float | None = None
    """How long the client says it will wait for a first token."""
    prompt_bytes: int = 0
    prefix: tuple[int, ...] = ()
    """Chained hashes of the prompt's blocks, see `prefixes`; empty where it has none worth remembering."""

    @property
    def key(self) -> Key | None:
        """What has to be loaded for it; None where that can't be told."""
        return None if self.model is None else (self.model, self.shape)


Key = tuple[str, str]
"""A model and the shape it runs in: what a runner is. Requests of one key can stand in for each other in a queue."""
