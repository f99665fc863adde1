from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamad.routing.decide import Need, Request, Standing, Verdict, decide
from ollamad.routing.memory import Line, ModelRule, Policy
from ollamad.routing.prefixes import BLOCK_BYTES, prefix_of
from ollamad.routing.snapshot import ChildView, GpuView, LoadView, Snapshot
from ollamad.supervision.state import Phase, Want
from tests.support.scene import EMBED, NOW_S, RUN, M, child, fleet, memory


def test_a_resident_model_with_a_free_slot_goes_before_an_idle_child_that_would_have_to_load_it() -> None:
    decision = decide(RUN, fleet(child("a"), child("b", M, busy=1, slots=2)), memory(), 0.0)
    assert (decision.verdict, decision.child) == (Verdict.SEND, "b")


def test_with_nothing_known_an_idle_child_loads_the_model_rather_than_let_a_request_queue() -> None:
    decision = decide(RUN, fleet(child("a"), child("b", M, busy=1)), memory(), 0.0)
    assert (decision.verdict, decision.child) == (Verdict.LOAD, "a")


def test_a_request_waits_for_a_slot_that_frees_sooner_than_another_child_could_load() -> None:
    known = memory(load_s=10.0, service_s=2.0)
    assert decide(RUN, fleet(child("a"), child("b", M, busy=1)), known, 0.0).verdict is Verdict.WAIT


def test_the_last_of_a_long_line_is_worth_a_further_copy() -> None:
    known, snapshot = memory(load_s=10.0, service_s=2.0), fleet(child("a"), child("b", M, busy=1))
    decision = decide(RUN, snapshot, known, 0.0, place=20)
    assert (decision.verdict, decision.child) == (Verdict.LOAD, "a")


def test_no_further_copy_is_loaded_than_the_operator_allows() -> None:
    known = memory(load_s=1.0, service_s=60.0, rules={M: ModelRule(max_replicas=1)})
    assert decide(RUN, fleet(child("a"), child("b", M, busy=1)), known, 0.0, place=9).verdict is Verdict.WAIT


def test_one_load_serves_all_who_wait_for_it() -> None:
    known = memory(load_s=5.0, service_s=1.0)
    loading = child("a", load=LoadView(M, "", NOW_S - 1.0))
    assert decide(RUN, fleet(loading, child("b")), known, 0.0, place=1).verdict is Verdict.WAIT


def test_a_model_that_nobody_has_is_loaded_where_nothing_has_to_go_for_it() -> None:
    known = memory(gb={M: 8, "x": 8})
    decision = decide(RUN, fleet(child("a", "x", gb=12), child("b", gb=12)), known, 0.0)
    assert (decision.verdict, decision.child, decision.evicts) == (Verdict.LOAD, "b", ())


def test_the_model_that_is_asked_for_least_goes_to_make_room() -> None:
    known = memory(gb={M: 8, "hot": 8, "cold": 8})
    for second in range(50):
        known.arrived(Request(Need.RUNNER, "hot"), NOW_S - second)
    decision = decide(RUN, fleet(child("a", "hot", gb=12), child("b", "cold", gb=12)), known, 0.0)
    assert (decision.child, decision.evicts) == ("b", ("cold",))


def test_a_pinned_model_never_goes() -> None:
    known = memory(gb={M: 8, "x": 8}, rules={"x": ModelRule(pin=True)})
    decision = decide(RUN, fleet(child("a", "x", gb=12)), known, 0.0)
    assert (decision.verdict, decision.rejected) == (Verdict.WAIT, {"a": "what it holds is pinned there"})


def test_a_model_for_which_a_child_is_too_small_goes_to_a_wide_one() -> None:
    known = memory(gb={M: 30})
    decision = decide(RUN, fleet(child("gpu0", gb=24), child("gpu1+2", gb=48)), known, 0.0)
    assert (decision.child, decision.rejected) == ("gpu1+2", {"gpu0": "is too small for this model"})


def test_a_model_that_fits_nowhere_goes_where_most_of_it_fits() -> None:
    known = memory(gb={M: 100})
    decision = decide(RUN, fleet(child("a", gb=24), child("b", gb=48)), known, 0.0)
    assert (decision.verdict, decision.child) == (Verdict.LOAD, "b")
    assert decision.rejected == {"a": "is too small for this model"}


def test_a_child_that_is_too_small_leaves_a_copy_more_to_all_that_are_not() -> None:
    known = memory(gb={M: 30}, load_s=1.0, service_s=60.0)
    children = child("full", M, busy=1, gb=48), child("small", gb=24), child("fits", gb=40), child("too", "x", gb=80)
    decision = decide(RUN, fleet(*children), known, 0.0)
    assert (decision.verdict, decision.child) == (Verdict.LOAD, "fits")
    assert decision.rejected == {"small": "is too small for this model"}


def test_what_has_to_make_room_gets_no_more_requests() -> None:
    leaving = child("a", M, slots=4, load=LoadView("other", "", NOW_S, (M,)))
    assert decide(RUN, fleet(leaving), memory(), 0.0).verdict is Verdict.WAIT


def test_another_shape_of_the_model_counts_as_a_load() -> None:
    request = replace(RUN, shape='{"num_ctx":8192}')
    has, lacks = child("a", M, shape='{"num_ctx":8192}'), child("b", M)
    assert decide(request, fleet(lacks, has), memory(), 0.0).child == "a"
    decision = decide(request, fleet(lacks), memory(), 0.0)
    assert (decision.verdict, decision.evicts) == (Verdict.LOAD, (M,))


def test_the_child_that_holds_the_longest_beginning_of_the_prompt_is_preferred() -> None:
    text = b"x" * BLOCK_BYTES * 20
    request = replace(RUN, prompt_bytes=len(text), prefix=prefix_of(text))
    known = memory()
    known.prefixes.sent(("b", 1, M), request.prefix[:15], slots=4)
    children = child("a", M, slots=4), child("b", M, slots=4), child("c", M, slots=4)
    assert decide(request, fleet(*children), known, 0.0).child == "b"


def test_a_held_beginning_counts_for_nothing_on_a_child_that_is_much_busier() -> None:
    text = b"x" * BLOCK_BYTES * 20
    request = replace(RUN, prompt_bytes=len(text), prefix=prefix_of(text))
    known = memory()
    known.prefixes.sent(("b", 1, M), request.prefix, slots=8)
    assert decide(request, fleet(child("a", M, slots=8), child("b", M, busy=5, slots=8)), known, 0.0).child == "a"


def test_a_gpu_that_others_use_or_that_is_hot_is_avoided_and_a_stale_reading_is_not_believed() -> None:
    def pinned(name: str, percent: int, hot: int, sampled_at_s: float) -> ChildView:
        gpu = GpuView(0, name, "a GPU", None, None, None, percent, hot, sampled_at_s, None)
        return msgspec.structs.replace(child(name, M), gpus=(gpu,))

    for worse in (pinned("a", 90, 50, NOW_S), pinned("a", 0, 90, NOW_S)):
        assert decide(RUN, fleet(worse, pinned("b", 0, 50, NOW_S)), memory(), 0.0).child == "b"
    stale = fleet(pinned("a", 90, 90, NOW_S - 60), pinned("b", 0, 50, NOW_S))
    assert decide(RUN, stale, memory(), 0.0).child == "a"


def test_one_slot_is_kept_for_embeddings_where_they_are_asked_for() -> None:
    known = memory(load_s=100.0)
    known.arrived(EMBED, NOW_S)
    snapshot = fleet(child("a", M, busy=3, slots=4))
    assert decide(RUN, snapshot, known, 0.0).verdict is Verdict.WAIT
    assert decide(EMBED, snapshot, known, 0.0).verdict is Verdict.SEND


def test_a_family_that_ollama_gives_one_slot_is_taken_to_have_one() -> None:
    known = memory(load_s=100.0, service_s=1.0)
    known.knowledge.families[M] = "bert"
    assert decide(RUN, fleet(child("a", M, busy=1, slots=4)), known, 0.0).verdict is Verdict.WAIT


def test_a_weighted_child_gets_more() -> None:
    request = replace(RUN, prompt_bytes=40_000)
    children = child("a", M), msgspec.structs.replace(child("b", M), weight=3.0)
    assert decide(request, fleet(*children), memory(), 0.0).child == "b"


def test_who_wants_a_model_gathers_while_the_children_are_busy_loading() -> None:
    known = memory(gb={M: 8, "x": 8, "y": 8})
    for second in range(100):
        known.arrived(Request(Need.RUNNER, "x"), NOW_S - second)
    children = child("a", "x", gb=12), child("b", gb=12, load=LoadView("y", "", NOW_S))
    known.lines[M, ""] = Line(1, 0.0)
    assert decide(RUN, fleet(*children), known, 0.0).verdict is Verdict.WAIT
    known.lines[M, ""] = Line(9, 200.0)
    assert decide(RUN, fleet(*children), known, 0.0).verdict is Verdict.LOAD


def test_what_changes_the_store_goes_to_the_first_child_however_busy_it_is() -> None:
    snapshot = fleet(child("a", phase=Phase.BACKOFF), child("b", busy=9), child("c"))
    assert decide(Request(Need.STORE), snapshot, memory(), 0.9).child == "b"


def test_what_any_child_can_answer_goes_to_the_least_busy() -> None:
    assert decide(Request(Need.ANY), fleet(child("a", busy=1), child("b")), memory(), 0.0).child == "b"


def test_equals_share_by_luck() -> None:
    snapshot = fleet(child("a", M), child("b", M), child("c", M))
    assert [decide(RUN, snapshot, memory(), luck).child for luck in (0.0, 0.4, 0.99)] == ["a", "b", "c"]


def test_among_equals_the_last_choice_for_the_model_goes_first() -> None:
    known = memory()
    known.sent(RUN, "b", 1, 1, NOW_S)
    assert decide(RUN, fleet(child("a", M), child("b", M)), known, 0.0).child == "b"


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
    decision = decide(RUN, fleet(view), memory(), 0.0)
    assert (decision.verdict, decision.child, decision.rejected) == (Verdict.REFUSE, None, {"a": reason})


def test_a_life_that_failed_this_request_does_not_get_it_again_but_its_successor_may() -> None:
    snapshot = fleet(child("a", M))
    assert decide(replace(RUN, tried=frozenset({("a", 1)})), snapshot, memory(), 0.0).rejected == {
        "a": "failed this request"
    }
    assert decide(replace(RUN, tried=frozenset({("a", 0)})), snapshot, memory(), 0.0).child == "a"


def test_a_child_that_failed_several_requests_rests_unless_it_is_the_only_one() -> None:
    known = memory()
    for _ in range(3):
        known.breakers.failed("a", 1, M, NOW_S)
    decision = decide(RUN, fleet(child("a", M), child("b", M)), known, 0.0)
    assert (decision.child, "rests" in decision.rejected["a"]) == ("b", True)
    assert decide(RUN, fleet(child("a", M)), known, 0.0).child == "a"


def test_a_model_that_could_not_be_loaded_by_name_goes_straight_to_a_child_that_says_why() -> None:
    known = memory()
    known.load_refused((M, ""), NOW_S)
    decision = decide(RUN, fleet(child("a", busy=1), child("b")), known, 0.0)
    assert (decision.verdict, decision.child) == (Verdict.SEND, "b")


def test_a_model_whose_loads_kill_one_life_after_another_is_suspected_itself() -> None:
    known = memory()
    for _ in range(2):
        known.load_failed((M, ""), NOW_S)
    assert decide(RUN, fleet(child("a")), known, 0.0).verdict is Verdict.LOAD
    known.load_failed((M, ""), NOW_S)
    assert decide(RUN, fleet(child("a")), known, 0.0).verdict is Verdict.SEND


def test_a_model_whose_load_failed_everywhere_is_not_loaded_again_and_again_but_sent() -> None:
    known = memory()
    for name in "ab":
        known.breakers.failed(name, 1, M, NOW_S, weight=3)
    assert decide(RUN, fleet(child("a"), child("b")), known, 0.0).verdict is Verdict.SEND


@pytest.mark.parametrize("policy", [policy for policy in Policy if policy is not Policy.COST])
def test_other_policies_send_at_once_wherever_the_model_is(policy: Policy) -> None:
    decision = decide(RUN, fleet(child("a", busy=9), child("b", M, busy=9)), memory(policy=policy), 0.3)
    assert (decision.verdict, decision.reason) == (Verdict.SEND, policy.value)


def test_an_explanation_has_every_child_s_terms_or_the_reason_against_it() -> None:
    snapshot = fleet(
        child("a", M),
        child("b", M, busy=1),
        child("c", load=LoadView(M, "", NOW_S)),
        child("d"),
        child("e", want=Want.DOWN),
    )
    decision = decide(RUN, snapshot, memory(), 0.0, thorough=True)
    assert decision.child == "a"
    assert {terms.child: terms.standing for terms in decision.candidates} == {
        "a": Standing.READY,
        "b": Standing.FULL,
        "c": Standing.LOADING,
        "d": Standing.COLD,
    }
    assert decision.explain().keys() == {"a", "b", "c", "d", "e"}
    assert decision.explain()["d"].startswith("cold, ")
    assert "load " in decision.explain()["d"]


NAMES = st.sampled_from([M, "other:latest"])
LOADS = st.none() | st.builds(LoadView, NAMES, st.just(""), st.just(NOW_S - 1), st.just(()) | st.just((M,)))


@st.composite
def fleets(draw: st.DrawFn) -> Snapshot:
    count = draw(st.integers(0, 6))
    return fleet(
        *(
            child(
                f"c{index}",
                *draw(st.lists(NAMES, unique=True, max_size=2)),
                busy={M: draw(st.integers(0, 4)), "other:latest": draw(st.integers(0, 4))},
                slots=draw(st.integers(1, 4)),
                phase=draw(st.sampled_from(Phase)),
                want=draw(st.sampled_from(Want)),
                trusted=draw(st.booleans()),
                gb=draw(st.none() | st.floats(1, 50)),
                load=draw(LOADS),
            )
            for index in range(count)
        )
    )


LUCK = st.floats(0, 1, exclude_max=True)
PLACE = st.integers(0, 50)


@given(fleets(), st.sampled_from(Need), st.sampled_from(Policy), LUCK, PLACE)
def test_only_a_routable_child_is_ever_chosen_and_refused_only_when_there_is_none(
    snapshot: Snapshot, need: Need, policy: Policy, luck: float, place: int
) -> None:
    decision = decide(Request(need, M), snapshot, memory(policy=policy), luck, place=place)
    routable = {view.id for view in snapshot.children if view.routable}
    assert (decision.verdict is Verdict.REFUSE) is not bool(routable)
    assert decision.child is None or decision.child in routable
    assert {view.id for view in snapshot.children} - routable <= decision.rejected.keys()


@given(fleets(), LUCK, PLACE)
def test_what_is_sent_has_the_model_and_a_free_slot_and_is_not_making_room(
    snapshot: Snapshot, luck: float, place: int
) -> None:
    decision = decide(RUN, snapshot, memory(), luck, place=place)
    if decision.verdict is Verdict.SEND:
        view = next(view for view in snapshot.children if view.id == decision.child)
        assert any(held.model == M for held in view.residents)
        assert view.busy.get(M, 0) < view.slots
        assert view.load is None or M not in view.load.evicts


@given(fleets(), LUCK, PLACE)
def test_a_load_never_begins_where_another_is_under_way_or_the_model_is_already(
    snapshot: Snapshot, luck: float, place: int
) -> None:
    decision = decide(RUN, snapshot, memory(), luck, place=place)
    if decision.verdict is Verdict.LOAD:
        view = next(view for view in snapshot.children if view.id == decision.child)
        assert view.load is None
        assert not any(held.model == M for held in view.residents)


@given(fleets(), LUCK, PLACE)
def test_an_explanation_decides_the_same(snapshot: Snapshot, luck: float, place: int) -> None:
    plain = decide(RUN, snapshot, memory(), luck, place=place)
    thorough = decide(RUN, snapshot, memory(), luck, place=place, thorough=True)
    assert (plain.verdict, plain.child) == (thorough.verdict, thorough.child)


@given(st.integers(1, 8), st.integers(1, 40), LUCK)
def test_a_burst_spreads_over_warm_children_to_within_one_request(children: int, burst: int, luck: float) -> None:
    busy = [0] * children
    for _ in range(burst):
        snapshot = fleet(*(child(str(index), M, busy=count, slots=99) for index, count in enumerate(busy)))
        busy[int(decide(RUN, snapshot, memory(), luck).child or 0)] += 1
    assert max(busy) - min(busy) <= 1
