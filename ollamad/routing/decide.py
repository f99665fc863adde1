"""The decision: which child gets this request, and why the others do not.

Candidates pass filters (the reason to reject, or None), what is left is ranked. Nothing here waits: when nobody is
left, the caller does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

from ollamad.routing.snapshot import ChildView, Snapshot
from ollamad.supervision.state import Phase, Want


class Need(Enum):
    """What a request asks of a child."""

    RUNNER = "runner"
    """A loaded model: a free slot where it is resident, else the fewest requests in flight."""
    STORE = "store"
    """To change the shared store. Ollama serialises changes only within one process: all go to the first child."""
    ANY = "any"
    """An answer that any child can give."""


@dataclass(frozen=True, slots=True)
class Request:
    """What routing knows of a request."""

    need: Need
    model: str | None = None
    """Canonical name; None where the request names none, or none that could be read."""
    tried: frozenset[tuple[str, int]] = frozenset()
    """Lives (child, its life's number) that answered this very request with a failure of theirs."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The chosen child, or None when no child can take the request now."""

    child: str | None
    rejected: Mapping[str, str]
    """Why each of the others can't have it, by child."""


Filter = Callable[[Request, ChildView], str | None]


def must_be_routable(_request: Request, child: ChildView) -> str | None:
    """Only a ready, wanted and trusted child."""
    if child.phase is not Phase.READY:
        return str(child.phase.value)
    if child.want is not Want.UP:
        return "not wanted"
    return None if child.trusted else "failed a connection, not heard of since"


def must_be_untried(request: Request, child: ChildView) -> str | None:
    """Never a life that already failed this request: it would fail it again."""
    return "failed this request" if (child.id, child.life) in request.tried else None


FILTERS: tuple[Filter, ...] = (must_be_routable, must_be_untried)


def decide(request: Request, snapshot: Snapshot, luck: float) -> Decision:
    """Choose among the children of `snapshot`. Ties go by `luck`, in [0, 1)."""
    rejected: dict[str, str] = {}
    candidates: list[tuple[int, ChildView]] = []
    for order, child in enumerate(snapshot.children):
        reason = next((why for check in FILTERS if (why := check(request, child))), None)
        if reason is None:
            candidates.append((order, child))
        else:
            rejected[child.id] = reason
    if not candidates:
        return Decision(None, rejected)
    ranks = [_rank(request, child, order) for order, child in candidates]
    best = [child for rank, (_, child) in zip(ranks, candidates, strict=True) if rank == min(ranks)]
    return Decision(best[int(luck * len(best))].id, rejected)


def _rank(request: Request, child: ChildView, order: int) -> tuple[int, ...]:
    """Least is best."""
    match request.need:
        case Need.STORE:
            return (order,)
        case Need.RUNNER:
            warm = any(resident.model == request.model for resident in child.residents)
            return (int(not (warm and child.in_flight < child.slots)), child.in_flight, int(not warm))
        case Need.ANY:
            return (child.in_flight,)
