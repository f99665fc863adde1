"""Who is no candidate, and why."""

from __future__ import annotations

from dataclasses import replace

from ollamad.routing.filters import candidates
from ollamad.routing.snapshot import ChildView
from ollamad.supervision.state import Phase
from tests.support.scene import NOW_S, RUN, M, child, memory

ALL = (child("starts", phase=Phase.STARTING), child("failed it", M), child("rests"), child("takes it"))


def ids(views: list[ChildView]) -> list[str]:
    return [view.id for view in views]


def test_each_child_is_a_candidate_or_has_the_first_reason_against_it() -> None:
    known = memory()
    known.breakers.failed("rests", 1, M, NOW_S, weight=3)
    request = replace(RUN, tried=frozenset({("failed it", 1), ("starts", 1), ("takes it", 0)}))
    fit, rejected, resting = candidates(request, ALL, known, NOW_S)
    assert (ids(fit), resting) == (["takes it"], False)
    assert rejected == {
        "starts": "starting",
        "failed it": "failed this request",
        "rests": "failed several requests for this model in a row; rests",
    }


def test_those_who_rest_are_candidates_when_nobody_else_is_and_not_those_who_failed_this_request() -> None:
    known = memory()
    known.breakers.failed("rests", 1, M, NOW_S, weight=3)
    request = replace(RUN, tried=frozenset({("failed it", 1)}))
    fit, rejected, resting = candidates(request, ALL[:3], known, NOW_S)
    assert (ids(fit), resting, set(rejected)) == (["rests"], True, {"starts", "failed it"})


def test_a_request_that_failed_somewhere_rests_as_any_other_does() -> None:
    known = memory()
    known.breakers.failed("rests", 1, M, NOW_S, weight=3)
    request = replace(RUN, tried=frozenset({("elsewhere", 1)}))
    assert "rests" in candidates(request, ALL, known, NOW_S)[1]
