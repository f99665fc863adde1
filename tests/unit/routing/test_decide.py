from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamad.routing.decide import Need, Request, decide
from ollamad.routing.snapshot import ChildView, Resident, Snapshot
from ollamad.supervision.state import Phase, Want


def child(
    name: str,
    *models: str,
    in_flight: int = 0,
    slots: int = 1,
    phase: Phase = Phase.READY,
    want: Want = Want.UP,
    trusted: bool = True,
) -> ChildView:
    return ChildView(
        id=name,
        want=want,
        phase=phase,
        trusted=trusted,
        in_flight=in_flight,
        slots=slots,
        life=1,
        residents=tuple(Resident(model, None, None, None) for model in models),
    )


def fleet(*children: ChildView) -> Snapshot:
    return Snapshot(taken_at_s=0.0, children=children)


RUN = Request(Need.RUNNER, "m:latest")


def test_a_resident_model_with_a_free_slot_goes_before_an_idle_child_that_would_have_to_load_it() -> None:
    assert decide(RUN, fleet(child("a"), child("b", "m:latest", in_flight=1, slots=2)), 0.0).child == "b"


def test_a_full_child_is_no_reason_to_queue_while_another_is_idle() -> None:
    assert decide(RUN, fleet(child("a"), child("b", "m:latest", in_flight=1)), 0.0).child == "a"


def test_among_full_children_the_fewest_requests_in_flight_win_and_residency_breaks_the_tie() -> None:
    busy = child("a", in_flight=2), child("b", "m:latest", in_flight=2), child("c", "m:latest", in_flight=3)
    assert decide(RUN, fleet(*busy), 0.0).child == "b"


def test_what_changes_the_store_goes_to_the_first_child_however_busy_it_is() -> None:
    snapshot = fleet(child("a", phase=Phase.BACKOFF), child("b", in_flight=9), child("c"))
    assert decide(Request(Need.STORE), snapshot, 0.9).child == "b"


def test_what_any_child_can_answer_goes_to_the_least_busy() -> None:
    assert decide(Request(Need.ANY), fleet(child("a", in_flight=1), child("b")), 0.0).child == "b"


def test_equals_share_by_luck() -> None:
    snapshot = fleet(child("a"), child("b"), child("c"))
    assert [decide(RUN, snapshot, luck).child for luck in (0.0, 0.4, 0.99)] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("view", "reason"),
    [
        (child("a", phase=Phase.STARTING), "starting"),
        (child("a", phase=Phase.BACKOFF), "backoff"),
        (child("a", phase=Phase.STOPPING, want=Want.DOWN), "stopping"),
        (child("a", want=Want.DOWN), "not wanted"),
        (child("a", trusted=False), "failed a connection, not heard of since"),
    ],
)
def test_a_child_that_cannot_be_used_is_rejected_with_its_reason(view: ChildView, reason: str) -> None:
    decision = decide(RUN, fleet(view), 0.0)
    assert (decision.child, decision.rejected) == (None, {"a": reason})


def test_a_life_that_failed_this_request_does_not_get_it_again_but_its_successor_may() -> None:
    snapshot = fleet(child("a"))
    assert decide(Request(Need.RUNNER, "m", frozenset({("a", 1)})), snapshot, 0.0).rejected == {
        "a": "failed this request"
    }
    assert decide(Request(Need.RUNNER, "m", frozenset({("a", 0)})), snapshot, 0.0).child == "a"


VIEWS = st.builds(
    child,
    st.just("x"),
    st.sampled_from(["m:latest", "other:latest"]),
    in_flight=st.integers(0, 5),
    slots=st.integers(1, 4),
    phase=st.sampled_from(Phase),
    want=st.sampled_from(Want),
    trusted=st.booleans(),
)
LUCK = st.floats(0, 1, exclude_max=True)


@given(st.lists(VIEWS, max_size=8), st.sampled_from(Need), LUCK)
def test_a_routable_child_is_found_whenever_there_is_one_and_nobody_else_is_ever_chosen(
    views: list[ChildView], need: Need, luck: float
) -> None:
    named = [child_named(view, f"c{index}") for index, view in enumerate(views)]
    decision = decide(Request(need, "m:latest"), fleet(*named), luck)
    routable = {view.id for view in named if view.routable}
    assert (decision.child in routable) if routable else decision.child is None
    assert set(decision.rejected) == {view.id for view in named} - routable


@given(st.integers(1, 8), st.integers(1, 40), LUCK)
def test_a_burst_spreads_to_within_one_request(children: int, burst: int, luck: float) -> None:
    in_flight = [0] * children
    for _ in range(burst):
        snapshot = fleet(*(child(str(index), in_flight=busy) for index, busy in enumerate(in_flight)))
        in_flight[int(decide(RUN, snapshot, luck).child or 0)] += 1
    assert max(in_flight) - min(in_flight) <= 1


def child_named(view: ChildView, name: str) -> ChildView:
    return child(
        name,
        *(resident.model for resident in view.residents),
        in_flight=view.in_flight,
        slots=view.slots,
        phase=view.phase,
        want=view.want,
        trusted=view.trusted,
    )
