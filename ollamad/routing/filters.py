"""Who is no candidate, and why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ollamad.routing.memory import Memory
from ollamad.routing.request import Request
from ollamad.routing.snapshot import ChildView
from ollamad.supervision.state import Phase, Want

Filter = Callable[[Request, ChildView], str | None]
"""The reason against this child; None when there is none."""


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


FILTERS: Final[tuple[Filter, ...]] = (must_be_routable, must_be_untried)


def candidates(
    request: Request, children: tuple[ChildView, ...], memory: Memory, now_s: float
) -> tuple[list[ChildView], dict[str, str], bool]:
    """Those who can take the request, the reasons against the others, and whether those who can should rest.

    A rest after failures is a reason only while another child is left: with none, the request is sent all the same,
    and its client hears from the child what is wrong.
    """
    rejected: dict[str, str] = {}
    fit, resting = [], []
    breakers, tried = memory.breakers, request.tried
    for child in children:
        why = None
        if not child.routable or (tried and (child.id, child.life) in tried):
            why = next((said for check in FILTERS if (said := check(request, child))), None)
        elif why := breakers.why_not(child.id, child.life, request.model, now_s):
            resting.append(child)
        if why is None:
            fit.append(child)
        else:
            rejected[child.id] = why
    if not fit and resting:
        for child in resting:
            del rejected[child.id]
        return resting, rejected, True
    return fit, rejected, False
