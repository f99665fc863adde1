"""Who waits for what, and what is done next for them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamad.routing.admission import LOOKS_MAX, RETRY_MAX_S, Admission, Load, Move, Send, retry_after_s
from ollamad.routing.decide import Need, Request, Verdict, Work
from ollamad.routing.fair import Ticket
from ollamad.routing.knowledge import What
from ollamad.routing.memory import Line, Memory
from ollamad.routing.snapshot import Snapshot
from tests.support.scene import EMBED, NOW_S, RUN, M, child, fleet, memory

X = Request(Need.RUNNER, "x")
FULL = fleet(child("a", M, busy=1))


def entered(*requests: Request, known: Memory | None = None, at_s: float = NOW_S) -> tuple[Admission, list[Ticket]]:
    admission = Admission(known or memory())
    return admission, [admission.enter(one, (str(one.model), one.shape), at_s) for one in requests]


def sends(move: Move | None) -> Ticket:
    assert isinstance(move, Send)
    assert move.decision.verdict is Verdict.SEND
    return move.ticket


def test_with_nobody_in_line_there_is_nothing_to_do() -> None:
    assert Admission(memory()).next_move(fleet(child("a", M)), 0.0) is None


def test_the_head_of_a_line_goes_to_the_first_free_slot_and_the_next_waits() -> None:
    admission, (first, second) = entered(RUN, RUN)
    assert sends(admission.next_move(fleet(child("a", M)), 0.0)) is first
    admission.leave(first, NOW_S, served=True)
    assert admission.next_move(FULL, 0.0) is None
    assert sends(admission.next_move(fleet(child("a", M)), 0.0)) is second


def test_the_luck_that_breaks_ties_is_the_one_given() -> None:
    admission, _ = entered(RUN)
    move = admission.next_move(fleet(child("a", M), child("b", M)), 0.99)
    assert isinstance(move, Send)
    assert move.decision.child == "b"
    move = admission.next_move(fleet(child("a"), child("b")), 0.0)
    assert isinstance(move, Load)


def test_embeddings_go_before_generations_of_the_same_model_whichever_came_first() -> None:
    admission, (_, embed) = entered(RUN, EMBED)
    assert sends(admission.next_move(fleet(child("a", M)), 0.0)) is embed


def test_those_who_have_waited_longest_all_together_go_first_unless_one_key_alone_is_looked_at() -> None:
    for first, second in ((RUN, X), (X, RUN)):
        admission, (one, _, _) = entered(first, second, second, at_s=NOW_S - 10)
        two = fleet(child("a", M, "x"))
        assert sends(admission.next_move(two, 0.0)).request == second
        key = one.request.key
        assert sends(admission.next_move(two, 0.0, only=key)) is one


def test_a_request_of_another_key_is_no_move_of_this_one() -> None:
    admission, _ = entered(X)
    assert admission.next_move(fleet(child("a", "x")), 0.0, only=(M, "")) is None


def test_a_slot_that_is_free_is_used_before_any_load_is_begun() -> None:
    admission, (_, there) = entered(RUN, X, at_s=NOW_S)
    assert sends(admission.next_move(fleet(child("a", "x"), child("b")), 0.0)) is there


def test_a_model_that_is_nowhere_is_loaded_for_the_head_of_its_line() -> None:
    for work in (Work.GENERATE, Work.EMBED):
        admission, (first, _) = entered(replace(RUN, work=work), replace(RUN, work=work))
        move = admission.next_move(fleet(child("a")), 0.0)
        assert isinstance(move, Load)
        assert (move.request, move.decision.child) == (first.request, "a")


def test_a_load_is_judged_by_the_last_in_line() -> None:
    """Each of them waits 2 s for the one before: a copy that takes 10 s to load is for the seventh, not before."""
    snapshot = fleet(child("a", M, busy=1), child("b"))
    for count, loads in ((6, False), (7, True)):
        admission, _ = entered(*[RUN] * count, known=memory(load_s=10.0, service_s=2.0))
        assert isinstance(admission.next_move(snapshot, 0.0), Load) is loads


def test_behind_one_that_failed_there_already_others_are_looked_at_but_not_endlessly() -> None:
    tried = replace(RUN, tried=frozenset({("a", 1)}))
    snapshot = fleet(child("a", M), child("b", M, busy=1))
    known = memory(load_s=100.0, service_s=1.0)
    for before, goes in ((1, True), (LOOKS_MAX, True), (LOOKS_MAX + 1, False)):
        admission, tickets = entered(*[tried] * before, RUN, known=known)
        move = admission.next_move(snapshot, 0.0)
        assert (sends(move) is tickets[-1]) if goes else move is None


def test_lines_tell_how_many_wait_and_for_how_long_and_end_with_the_last() -> None:
    known = memory()
    admission, (first, embed) = entered(RUN, EMBED, known=known, at_s=NOW_S - 4)
    assert (len(admission), known.lines) == (2, {(M, ""): Line(2, 0.0)})
    assert not admission.nobody_wants((M, ""))
    assert admission.nobody_wants(("x", ""))
    admission.next_move(fleet(child("a", load=None, models_max=0)), 0.0)
    assert known.lines == {(M, ""): Line(2, 8.0)}
    admission.leave(first, NOW_S)
    admission.leave(first, NOW_S)
    assert (len(admission), known.lines) == (1, {(M, ""): Line(1, 4.0)})
    assert not admission.nobody_wants((M, ""))
    admission.leave(embed, NOW_S, served=True)
    assert (len(admission), known.lines, admission.nobody_wants((M, ""))) == (0, {}, True)


@pytest.mark.parametrize(("served", "goes"), [(True, "b"), (False, "a")])
def test_who_was_served_goes_behind_who_was_not_and_who_left_does_not(goes: str, *, served: bool) -> None:
    admission, (first, second) = entered(replace(RUN, client="a"), replace(RUN, client="first"))
    if served:
        admission.leave(first, NOW_S, served=True)
    else:
        admission.leave(first, NOW_S)
    for client in "ab":
        admission.enter(replace(RUN, client=client), (M, ""), NOW_S)
    admission.leave(second, NOW_S, served=True)
    assert sends(admission.next_move(fleet(child("a", M)), 0.0)).request.client == goes


def test_the_wait_that_is_expected_counts_all_who_are_in_line_already() -> None:
    known = memory(load_s=1000.0, service_s=2.0)
    admission, _ = entered(known=known)
    assert admission.expected_s(RUN, (M, ""), FULL) == 2.0
    admission, _ = entered(RUN, RUN, EMBED, known=known)
    assert admission.expected_s(RUN, (M, ""), FULL) == 8.0
    assert admission.expected_s(replace(RUN, shape="s"), (M, "s"), fleet(child("a", M, shape="s", busy=1))) == 2.0


def test_the_wait_that_is_expected_where_slots_are_free_is_that_of_the_prompt() -> None:
    admission, _ = entered(known=memory(service_s=2.0))
    asked = replace(RUN, prompt_bytes=400)
    assert admission.expected_s(asked, (M, ""), fleet(child("a", M), child("b", M))) == 2.0


def test_a_deadline_that_can_t_be_met_is_told_with_when_to_come_back_once_enough_is_known() -> None:
    known = memory(load_s=1000.0, service_s=10.0)
    admission, _ = entered(RUN, RUN, known=known)
    hurried = replace(RUN, patience_s=5.5)
    assert admission.hopeless(hurried, (M, ""), FULL) is None, "one answer is not enough to turn somebody away by"
    for _ in range(4):
        known.knowledge.learn(What.SERVICE_S, M, "cpu", 10.0)
    assert admission.hopeless(hurried, (M, ""), FULL) == 25
    assert admission.hopeless(replace(RUN, patience_s=30.0), (M, ""), FULL) is None
    assert admission.hopeless(RUN, (M, ""), FULL) is None
    assert admission.hopeless(Request(Need.ANY, patience_s=0.0), (M, ""), FULL) is None
    assert admission.hopeless(hurried, (M, ""), fleet(child("a", M, busy=1, kind="another"))) is None


@pytest.mark.parametrize(
    ("expected_s", "seconds"),
    [
        (-5.0, 1),
        (0.2, 1),
        (1.0, 1),
        (1.1, 2),
        (599.5, 600),
        (601.0, RETRY_MAX_S),
        (1e9, RETRY_MAX_S),
        (float("inf"), 1),
    ],
)
def test_nobody_is_told_to_come_back_at_once_or_in_an_age(expected_s: float, seconds: int) -> None:
    assert retry_after_s(expected_s) == seconds


REQUESTS = st.builds(
    Request,
    st.just(Need.RUNNER),
    st.sampled_from([M, "x"]),
    work=st.sampled_from([Work.GENERATE, Work.EMBED]),
    client=st.sampled_from("ab"),
)


@given(st.lists(st.tuples(REQUESTS, st.booleans()), max_size=20))
def test_whoever_waits_is_served_once_when_slots_enough_are_free(asks: list[tuple[Request, bool]]) -> None:
    known = memory()
    admission = Admission(known)
    tickets = [(admission.enter(request, (str(request.model), ""), NOW_S), leaves) for request, leaves in asks]
    for ticket, leaves in tickets:
        if leaves:
            admission.leave(ticket, NOW_S)
    idle: Snapshot = fleet(child("a", M, "x", slots=99))
    found = []
    while (move := admission.next_move(idle, 0.0)) is not None:
        found.append(sends(move))
        admission.leave(found[-1], NOW_S, served=True)
    assert {id(ticket) for ticket in found} == {id(ticket) for ticket, leaves in tickets if not leaves}
    assert (len(admission), known.lines) == (0, {})
