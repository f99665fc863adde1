"""What there is to see of models: immutable, for status and for commands."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PullView:
    """A download under way."""

    model: str
    status: str
    """The last thing that Ollama said of it."""
    completed_bytes: int
    total_bytes: int
    """Of the blob that it last spoke of."""
    listeners: int
    """Clients that wait for it."""


@dataclass(frozen=True, slots=True)
class WantedView:
    """A model that the configuration asks for."""

    model: str
    state: str
    """Of `ensure`: `there`, `pulling`, `retrying`. Of `preload`: `loaded`, `loading`, `missing`, `failing`."""
    reason: str | None = None
    retry_in_s: float | None = None


@dataclass(frozen=True, slots=True)
class CopyView:
    """A blob on its way to another store."""

    blob: str
    done_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What a round over all stores did."""

    at_s: float
    """When it was done, on the monotonic clock."""
    models: int = 0
    """How many models there are, in any store."""
    spread: int = 0
    """How many came to a store that lacked them."""
    removed: int = 0
    blobs: dict[str, int] | None = None
    """How many blobs were `linked`, `reflinked` and `copied`."""
    notes: tuple[str, ...] = ()
    """Conflicts and who won them, models that can't be run."""
    problems: tuple[str, ...] = ()
    """What could not be done; the next round tries again."""


@dataclass(frozen=True, slots=True)
class PruneReport:
    """What a prune took away, or would."""

    dry_run: bool
    files: tuple[str, ...]
    disk_bytes: int
    """What the files take on the disk; hard links of one file count once."""
    spared: int = 0
    """Files that nothing needs either, but that changed too short a time ago."""


@dataclass(frozen=True, slots=True)
class ModelsView:
    """All of it."""

    store: str
    """`shared` or `per-child`."""
    pulls: tuple[PullView, ...]
    copies: tuple[CopyView, ...]
    ensure: tuple[WantedView, ...]
    preload: tuple[WantedView, ...]
    sync: SyncReport | None
    """The last round; None before the first."""
