"""What was decided on a request, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple


class Verdict(Enum):
    """What to do with a request now."""

    SEND = "send"
    WAIT = "wait"
    """Something must end first: a request, a load, or the patience with a rarely used model."""
    LOAD = "load"
    """Begin a load on `child`, after `evicts` are gone from there, and wait for whichever child is free first."""
    REFUSE = "refuse"
    """No child can ever serve it as things stand: none is routable."""


class Standing(Enum):
    """How a child stands to a request."""

    READY = "ready"
    """Has the model, and a free slot."""
    FULL = "full"
    """Has the model; its slots are taken."""
    LOADING = "loading"
    """Is loading the model."""
    COLD = "cold"
    """Would have to load it."""
    BLOCKED = "blocked"
    """Would have to load it, and can't now: another load is under way there, or what it holds may not go yet."""


class Terms(NamedTuple):
    """The expected seconds to the first token on one child, term by term; at most `SHOWN` of them in an explanation."""

    child: str
    standing: Standing
    wait_s: float
    """Until a slot frees, or until another load there is over."""
    load_s: float
    evict_s: float
    """What the eviction costs others, shared by those who wait for this load."""
    prefill_s: float
    pressure_s: float
    evicts: tuple[str, ...] = ()

    @property
    def total_s(self) -> float:
        """Their sum."""
        return self.wait_s + self.load_s + self.evict_s + self.prefill_s + self.pressure_s

    def __str__(self) -> str:
        parts = [f"{name} {value:.2f}" for name, value in zip(_NAMES, self[2:7], strict=True) if value >= 0.005]  # noqa: PLR2004
        detail = f": {', '.join(parts)}" if parts else ""
        return f"{self.standing.value}, {self.total_s:.2f} s{detail}"


_NAMES = ("wait", "load", "evict", "prefill", "pressure")


@dataclass(frozen=True, slots=True)
class Decision:
    """The verdict on one request, with each candidate's terms and each rejection's reason."""

    verdict: Verdict
    child: str | None
    """Where to send it, or to load; None with the other verdicts."""
    rejected: Mapping[str, str]
    """Why each child that is no candidate is none."""
    candidates: tuple[Terms, ...] = ()
    expected_s: float = 0.0
    """To the first token."""
    reason: str = ""
    """In few words."""
    evicts: tuple[str, ...] = field(default=())

    def explain(self) -> dict[str, str]:
        """For each child, in a sentence, how it stood."""
        return {**{terms.child: str(terms) for terms in self.candidates}, **self.rejected}
