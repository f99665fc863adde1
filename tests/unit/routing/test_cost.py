"""The cost policy by its figures: each term of each standing, and the thresholds between waiting and loading."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from ollamad.routing.cost import case_of
from ollamad.routing.decide import Decision, Need, Request, Standing, Terms, Verdict, decide
from ollamad.routing.knowledge import What
from ollamad.routing.memory import Line, Memory, ModelRule
from ollamad.routing.prefixes import BLOCK_BYTES, prefix_of
from ollamad.routing.queueing import Source
from ollamad.routing.room import make_room
from ollamad.routing.snapshot import ChildView, GpuView, LoadView
from tests.support.scene import EMBED, NOW_S, RUN, M, child, fleet, memory

ASKED = replace(RUN, prompt_bytes=1000)
"""200 tokens of the model that `learned` knows."""


def learned(rules: dict[str, ModelRule] | None = None) -> Memory:
    """M loads in 8 s, answers in 4 s and reads 100 tokens a second; x loads in 20 s. No other kind is known."""
    known = memory(rules=rules)
    for model, load_s, service_s, tokens_per_s in ((M, 8.0, 4.0, 100.0), ("x", 20.0, 6.0, 10.0)):
        known.knowledge.learn(What.LOAD_S, model, "fast", load_s)
        known.knowledge.learn(What.LOAD_COLD_S, model, "fast", 10 * load_s)
        known.knowledge.learn(What.SERVICE_S, model, "fast", service_s)
        known.knowledge.learn(What.PREFILL_PER_S, model, "fast", tokens_per_s)
        known.knowledge.read_at_s[model] = NOW_S - 10
    known.knowledge.learn(What.EMBED_S, M, "fast", 0.5)
    known.knowledge.learn(What.BYTES_PER_TOKEN, M, "", 5.0)
    return known


def fast(
    name: str,
    *models: str,
    busy: int | dict[str, int] = 0,
    load: LoadView | None = None,
    weight: float = 2.0,
    gb: float | None = None,
    slots: int = 2,
    models_max: int = 3,
) -> ChildView:
    """One that does all in half of what `learned` says, unless its weight is another."""
    view = child(name, *models, busy=busy, load=load, gb=gb, slots=slots, models_max=models_max, kind="fast")
    return msgspec.structs.replace(view, weight=weight)


READY = fast("ready", M, busy=1)
FULL = fast("full", M, busy=2)
LOADING = fast("loading", load=LoadView(M, "", NOW_S - 3))
LATE = fast("late", load=LoadView(M, "", NOW_S - 100))
COLD = fast("cold")
BLOCKED = fast("blocked", load=LoadView("x", "", NOW_S - 4))
TERMS = {
    "ready": Terms("ready", Standing.READY, 0.0, 0.0, 0.0, 1.0, 0.35),
    "full": Terms("full", Standing.FULL, 1.0, 0.0, 0.0, 1.0, 0.7),
    "loading": Terms("loading", Standing.LOADING, 1.0, 0.0, 0.0, 1.0, 0.0),
    "late": Terms("late", Standing.LOADING, 0.4, 0.0, 0.0, 1.0, 0.0),
    "cold": Terms("cold", Standing.COLD, 0.0, 4.0, 0.0, 1.0, 0.0),
    "blocked": Terms("blocked", Standing.BLOCKED, 6.0, 4.0, 0.0, 1.0, 0.0),
}
"""In seconds: to wait, to load, for what must go, to read the prompt, for the company there."""


def test_each_standing_has_its_terms() -> None:
    snapshot = fleet(COLD, FULL, LATE, BLOCKED, READY, LOADING)
    decision = decide(ASKED, snapshot, learned(), 0.0, thorough=True)
    assert (decision.verdict, decision.child, decision.expected_s) == (Verdict.SEND, "ready", 1.35)
    assert decision.reason == "has the model and a free slot"
    assert {terms.child: terms for terms in decision.candidates} == TERMS


def test_a_load_under_way_will_free_its_slots_as_fast_as_requests_end() -> None:
    case = case_of(ASKED, (M, ""), fleet(LOADING, FULL), learned(), 0)
    assert case.source(LOADING, Standing.LOADING) == Source(1.0, 2, 1.0)  # two slots, each for two seconds
    assert case.source(FULL, Standing.FULL) == Source(0.0, 0, 1.0)


def test_terms_read_as_a_line_in_which_what_is_nothing_is_left_out() -> None:
    assert str(TERMS["full"]) == "full, 2.70 s: wait 1.00, prefill 1.00, pressure 0.70"
    assert str(Terms("a", Standing.READY, 0.0, 0.0, 0.0, 0.004, 0.0)) == "ready, 0.00 s"
    assert str(Terms("a", Standing.READY, 0.0, 0.0, 0.0, 0.01, 0.0)) == "ready, 0.01 s: prefill 0.01"


def test_without_thoroughness_only_what_can_change_the_outcome_is_worked_out() -> None:
    assert decide(ASKED, fleet(COLD, READY, FULL), learned(), 0.0) == Decision(
        Verdict.SEND, "ready", {}, (TERMS["ready"],), 1.35, "has the model and a free slot"
    )
    assert decide(ASKED, fleet(COLD, FULL), learned(), 0.0) == Decision(
        Verdict.WAIT, None, {}, (), 1.0, "waits for a free slot"
    )


def test_a_load_says_what_it_is_for_and_when_the_request_will_be_served() -> None:
    assert decide(ASKED, fleet(COLD), learned(), 0.0) == Decision(
        Verdict.LOAD, "cold", {}, (TERMS["cold"],), 4.0, "nobody has it"
    )
    decision = decide(ASKED, fleet(COLD, FULL), learned(), 0.0, place=19)
    assert (decision.verdict, decision.child) == (Verdict.LOAD, "cold")
    assert decision.reason == "a copy more, as waiting takes 20.0 s"
    assert decision.expected_s == 4.0 + 14.0 / 2.0, "four are served by then, and two slots are free at once"
    assert [terms.child for terms in decision.candidates] == ["full", "cold"]


def test_a_wait_says_for_what_and_for_how_long() -> None:
    pinned = learned({"x": ModelRule(pin=True)})
    blocked = decide(ASKED, fleet(BLOCKED), learned(), 0.0)
    assert blocked == Decision(Verdict.WAIT, None, {}, (TERMS["blocked"],), 10.0, "waits for room")
    nowhere = decide(ASKED, fleet(fast("a", "x", models_max=1)), pinned, 0.0)
    assert (nowhere.verdict, nowhere.expected_s) == (Verdict.WAIT, float("inf"))
    assert nowhere.reason == "waits for a child that may load it"
    both = decide(ASKED, fleet(BLOCKED, FULL), learned(), 0.0, place=19)
    assert (both.verdict, both.expected_s) == (Verdict.WAIT, 14.0)
    assert both.reason == "waits for a free slot"
    assert [terms.child for terms in both.candidates] == ["full", "blocked"]


@pytest.mark.parametrize(
    ("request_", "child_", "rejected", "reason"),
    [
        (Request(Need.STORE), "full", {"down": "failed a connection, not heard of since"}, "the first child changes"),
        (Request(Need.ANY, M), "cold", {"down": "failed a connection, not heard of since"}, "the fewest requests in"),
    ],
)
def test_what_needs_no_runner_is_sent_at_once_and_says_why(
    request_: Request, child_: str, rejected: dict[str, str], reason: str
) -> None:
    down = child("down", trusted=False)
    decision = decide(request_, fleet(down, FULL, COLD), learned(), 0.0)
    assert (decision.verdict, decision.child, decision.rejected) == (Verdict.SEND, child_, rejected)
    assert decision.reason.startswith(reason)


@pytest.mark.parametrize(
    ("still_s", "wait_s"),
    [(0.0, 1.0), (7.9, 1.0), (8.0, 8.0), (100.0, 100.0)],  # it answers in 2 s, two at a time
)
def test_a_runner_of_which_no_slot_has_freed_for_long_is_expected_to_go_on_so(still_s: float, wait_s: float) -> None:
    known = learned()
    known.used_s["full", FULL.life, M] = NOW_S - still_s
    found = decide(ASKED, fleet(FULL, COLD), known, 0.0, thorough=True)
    assert next(terms.wait_s for terms in found.candidates if terms.child == "full") == wait_s
    assert (found.verdict is Verdict.LOAD) is (wait_s > 4.0)  # where the other loads it in 4 s


def test_a_refusal_says_that_there_is_no_child() -> None:
    decision = decide(RUN, fleet(), learned(), 0.0)
    assert (decision.verdict, decision.reason) == (Verdict.REFUSE, "no child can take it")


def test_an_explanation_tells_why_a_load_is_out_of_the_question_too() -> None:
    known = learned()
    known.knowledge.files_bytes[M] = 30_000_000_000
    decision = decide(ASKED, fleet(READY, fast("small", gb=24)), known, 0.0, thorough=True)
    assert decision.rejected == {"small": "is too small for this model"}


def test_luck_decides_an_explanation_too() -> None:
    equals = fleet(fast("a", M), fast("b", M))
    assert decide(ASKED, equals, learned(), 0.99, thorough=True).child == "b"


def test_among_busy_equals_it_goes_to_the_one_sent_to_longest_ago_and_else_by_luck() -> None:
    busy, known = fleet(*(fast(name, M, busy=1) for name in "abc")), learned()
    assert [decide(ASKED, busy, known, luck).child for luck in (0.0, 0.5, 0.99)] == ["a", "b", "c"]
    for name, back_s in (("a", 5), ("b", 9), ("c", 1)):
        known.sent(ASKED, name, 1, 2, NOW_S - back_s)
    assert decide(ASKED, busy, known, 0.99).child == "b"


def test_a_held_beginning_counts_up_to_the_slack_and_not_beyond() -> None:
    text = b"x" * BLOCK_BYTES * 2
    request, known = replace(RUN, prompt_bytes=len(text), prefix=prefix_of(text)), learned()
    known.prefixes.sent(("holds", 1, M), request.prefix, slots=8)
    for busy, read_s in ((4, 0.0), (5, len(text) / 5 / 200)):
        snapshot = fleet(fast("idle", M, slots=8), fast("holds", M, busy=busy, slots=8))
        decision = decide(request, snapshot, known, 0.0, thorough=True)
        assert next(terms.prefill_s for terms in decision.candidates if terms.child == "holds") == read_s


def gpu(name: str, **readings: object) -> GpuView:
    view = GpuView(0, name, "a GPU", None, None, None, None, None, NOW_S, None)
    return replace(view, **readings)  # type: ignore[arg-type]


@pytest.mark.parametrize("standing", [Standing.READY, Standing.COLD])
def test_what_slows_a_gpu_counts_in_every_standing_unless_its_reading_is_stale(standing: Standing) -> None:
    models = (M,) if standing is Standing.READY else ()
    for age_s, pressure_s in ((2.9, 0.3), (3.0, 0.3), (3.1, 0.1)):
        hot = (gpu("1", temperature_c=84, sampled_at_s=NOW_S - age_s), gpu("2"))
        view = msgspec.structs.replace(fast("a", *models), gpus=hot)
        (terms,) = decide(ASKED, fleet(view), learned(), 0.0, thorough=True).candidates
        assert terms.pressure_s == pytest.approx(pressure_s), "0.2 s for the heat, 0.1 s for two GPUs"


def test_a_wide_child_is_no_worse_for_embeddings() -> None:
    view = msgspec.structs.replace(fast("a", M), gpus=(gpu("1"), gpu("2")))
    assert decide(EMBED, fleet(view), learned(), 0.0).candidates[0].pressure_s == 0.0


@pytest.mark.parametrize(("slots", "left"), [(1, 1), (2, 1), (3, 2), (4, 3)])
def test_embeddings_have_one_slot_kept_for_them_where_there_are_two(slots: int, left: int) -> None:
    known = learned()
    known.arrived(EMBED, NOW_S)
    view = fast("a", M, slots=slots)
    assert case_of(RUN, (M, ""), fleet(view), known, 0).slots(view) == left
    assert case_of(EMBED, (M, ""), fleet(view), known, 0).slots(view) == slots


def test_what_a_request_takes_is_known_by_its_work_its_kind_and_the_weight_of_the_child() -> None:
    known, view = learned(), fast("a", M)
    assert case_of(RUN, (M, ""), fleet(view), known, 0).service_s(view) == 2.0
    assert case_of(EMBED, (M, ""), fleet(view), known, 0).service_s(view) == 0.25
    assert case_of(RUN, (M, ""), fleet(view), known, 0).load_s(view) == 4.0


def holding(*, held: bool = False) -> tuple[ChildView, Memory, float]:
    """A child full of a model that is asked for now and then, and what its going would cost others."""
    known = learned()
    known.arrived(Request(Need.RUNNER, "x"), NOW_S)
    view = fast("full of x", "x", models_max=1)
    if held:
        view = msgspec.structs.replace(view, residents=(replace(view.residents[0], since_s=NOW_S - 1),))
    room = make_room(M, view, fleet(view), known)
    assert room is not None
    assert (room.evicts, room.held) == (("x",), held)
    return view, known, room.harm_s


@pytest.mark.parametrize(("held", "share"), [(False, 2 / 3), (True, 4 / 3)])
def test_who_wants_a_model_gathers_until_all_have_waited_for_what_its_coming_costs(*, held: bool, share: float) -> None:
    """That cost counts by the share of children that are loading; and twice where what must go has only just come."""
    view, known, harm_s = holding(held=held)
    snapshot = fleet(view, BLOCKED, msgspec.structs.replace(BLOCKED, id="another"))
    for waited_s, verdict in ((share * harm_s - 0.01, Verdict.WAIT), (share * harm_s + 0.01, Verdict.LOAD)):
        known.lines[M, ""] = Line(9, waited_s)
        assert decide(ASKED, snapshot, known, 0.0).verdict is verdict


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_copy_more_must_shorten_the_wait_by_a_fifth_and_by_twice_what_it_costs_others(count: int) -> None:
    """Slots free at one a second; from 4.5 s on, with the copy, at two, and two more are there at once."""
    view, known, harm_s = holding()
    known.lines[M, ""] = Line(count, 0.0)
    least = (1.1 + 2 * harm_s / max(1, count)) / 0.4  # where 1.2 * (4.5 + (place - 5.5) / 2) + 2 * harm is place + 1
    for place, verdict in ((int(least), Verdict.WAIT), (int(least) + 1, Verdict.LOAD)):
        assert decide(ASKED, fleet(view, FULL), known, 0.0, place=place).verdict is verdict


def test_what_an_eviction_costs_is_shared_by_those_who_wait_for_it() -> None:
    view, known, harm_s = holding()
    for count, shared in ((0, 1), (1, 1), (4, 4)):
        known.lines[M, ""] = Line(count, 1000.0)
        (terms,) = decide(ASKED, fleet(view), known, 0.0).candidates
        assert terms == Terms("full of x", Standing.COLD, 0.5, 4.0, harm_s / shared, 1.0, 0.0, ("x",))
