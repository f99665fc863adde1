from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ollamad.routing.breaker import FAILURES_MAX, OPEN_MAX_S, OPEN_S, PROBE_S, Breaker, Breakers


def open_breakers(models: tuple[str, ...] = ("m",)) -> Breakers:
    breakers = Breakers()
    for _ in range(FAILURES_MAX):
        for model in models:
            breakers.failed("a", 1, model, 0.0)
    return breakers


def test_a_few_failures_in_a_row_close_the_model_to_the_child_and_a_success_opens_it_again() -> None:
    breakers = Breakers()
    for _ in range(FAILURES_MAX - 1):
        breakers.failed("a", 1, "m", 0.0)
    assert breakers.why_not("a", 1, "m", 0.0) is None
    breakers.failed("a", 1, "m", 0.0)
    assert breakers.why_not("a", 1, "m", 0.0) is not None
    assert breakers.why_not("b", 1, "m", 0.0) is None
    breakers.succeeded("a", 1, "m")
    assert breakers.why_not("a", 1, "m", 0.0) is None


def test_one_bad_model_does_not_close_a_child_to_the_others_but_two_do() -> None:
    assert open_breakers(("m",)).why_not("a", 1, "other", 0.0) is None
    assert open_breakers(("m", "n")).why_not("a", 1, "other", 0.0) == "failed several requests in a row; rests"
    assert open_breakers().why_not("a", 1, "m", 0.0) == "failed several requests for this model in a row; rests"


def test_two_children_that_each_fail_one_model_stay_open_to_the_others() -> None:
    breakers = open_breakers(("m",))
    for _ in range(FAILURES_MAX):
        breakers.failed("b", 1, "n", 0.0)
        breakers.failed("a", 2, "n", 0.0)
    assert [breakers.why_not(*life, "other", 0.0) for life in (("a", 1), ("b", 1), ("a", 2))] == [None, None, None]


def test_a_success_forgives_the_child_all_its_models_and_what_was_never_held_against_it_does_no_harm() -> None:
    breakers = open_breakers(("m", "n"))
    breakers.succeeded("a", 1, "m")
    assert breakers.why_not("a", 1, "other", 0.0) is None
    assert breakers.why_not("a", 1, "n", 0.0) is not None, "that one has still to show it"
    for _ in range(FAILURES_MAX):
        breakers.failed("a", 1, "m", 0.0)
    assert breakers.why_not("a", 1, "other", 0.0) is None, "two different ones in a row, not ever"
    breakers.succeeded("z", 9, "unheard of")


def test_what_is_sent_or_given_up_before_a_breaker_opens_leaves_no_probe_behind() -> None:
    breakers = Breakers()
    breakers.failed("a", 1, "m", 0.0)
    breakers.sent("a", 1, "m", 0.0)
    breakers.gave_up("a", 1, "m")
    for _ in range(FAILURES_MAX - 1):
        breakers.failed("a", 1, "m", 0.0)
    assert breakers.why_not("a", 1, "m", OPEN_S - 0.1) is not None
    assert breakers.why_not("a", 1, "m", OPEN_S) is None


def test_after_its_rest_one_request_may_try_and_only_one() -> None:
    breakers = open_breakers()
    now_s = OPEN_S + 0.1
    assert breakers.why_not("a", 1, "m", now_s) is None
    breakers.sent("a", 1, "m", now_s)
    assert breakers.why_not("a", 1, "m", now_s) is not None
    assert breakers.why_not("a", 1, "m", now_s + PROBE_S) is None, "a probe that never came back"


def test_a_probe_that_its_client_took_back_lets_another_try() -> None:
    breakers = open_breakers()
    breakers.sent("a", 1, "m", OPEN_S)
    breakers.gave_up("a", 1, "m")
    assert breakers.why_not("a", 1, "m", OPEN_S) is None


def test_a_probe_that_fails_doubles_the_rest() -> None:
    breakers = open_breakers()
    breakers.sent("a", 1, "m", OPEN_S)
    breakers.failed("a", 1, "m", OPEN_S)
    assert breakers.why_not("a", 1, "m", OPEN_S + 1.9 * OPEN_S) is not None
    assert breakers.why_not("a", 1, "m", OPEN_S + 2.1 * OPEN_S) is None


def test_a_new_life_starts_with_a_clean_sheet() -> None:
    breakers = open_breakers()
    assert breakers.why_not("a", 2, "m", 0.0) is None
    breakers.keep({("a", 1)})
    assert breakers.why_not("a", 1, "m", 0.0) is not None
    breakers.failed("a", 1, "other", 0.0, weight=FAILURES_MAX)
    assert breakers.why_not("a", 1, "third", 0.0) is not None, "it is remembered that another failed before"
    breakers.keep({("a", 2)})
    assert breakers.why_not("a", 1, "m", 0.0) is None
    assert (breakers._breakers, breakers._models_failed) == ({}, {})


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 500)), max_size=40))
def test_a_rest_is_bounded_and_always_ends(history: list[tuple[bool, float]]) -> None:
    breaker, now_s = Breaker(), 0.0
    for sent, wait_s in history:
        now_s += wait_s
        breaker = breaker.sent(now_s) if sent else breaker.failed(now_s, 1)
        assert breaker.open_for_s <= OPEN_MAX_S
    assert breaker.lets_through(now_s + OPEN_MAX_S + PROBE_S)
