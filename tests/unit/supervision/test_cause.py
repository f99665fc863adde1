from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamad.supervision.cause import Cause, cause_of
from ollamad.supervision.phase import step
from ollamad.supervision.state import (
    Answered,
    ChildState,
    Event,
    Gone,
    Missed,
    Phase,
    Restart,
    Stuck,
    Tick,
    Unfit,
    Want,
    WantDown,
    WantUp,
)
from tests.unit.supervision.machine import POLICY


def causes(*events: tuple[float, Event]) -> list[Cause]:
    """What the deaths in this history are counted as."""
    state, cause, found = ChildState(), None, list[Cause]()
    for now_s, event in events:
        before = state
        state, _ = step(before, event, now_s, POLICY, 0.0)
        cause = cause_of(before, event, state, cause)
        if state.deaths > before.deaths:
            assert cause is not None
            found.append(cause)
            cause = None
    return found


UP: tuple[tuple[float, Event], ...] = ((0.0, WantUp()), (1.0, Answered(1)))
MISSES: tuple[tuple[float, Event], ...] = tuple((2.0 + at_s, Missed(1)) for at_s in range(POLICY.misses_max))


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ((*UP, (5.0, Gone(1, "exit status 1"))), [Cause.EXITED]),
        (((0.0, WantUp()), (1.0, Gone(1, "could not be started"))), [Cause.NOT_STARTED]),
        (((0.0, WantUp()), (100.0, Tick()), (101.0, Gone(1, "killed"))), [Cause.START_TIMEOUT]),
        ((*UP, *MISSES, (9.0, Gone(1, "killed"))), [Cause.UNRESPONSIVE]),
        (
            (*UP, (2.0, Stuck(1, "m", "silent")), (9.0, Stuck(1, "m", "silent")), (10.0, Gone(1, "killed"))),
            [Cause.STUCK],
        ),
        ((*UP, (2.0, Unfit(1, "on the CPU")), (3.0, Gone(1, "killed"))), [Cause.UNFIT]),
    ],
)
def test_a_death_is_counted_by_what_led_to_it(history: tuple[tuple[float, Event], ...], expected: list[Cause]) -> None:
    assert causes(*history) == expected


def test_an_end_that_was_asked_for_is_no_death_and_leaves_no_cause_behind() -> None:
    asked: tuple[tuple[float, Event], ...] = (*UP, (2.0, WantDown()), (3.0, Gone(1, "signal 15")))
    assert causes(*asked) == []
    ended: tuple[tuple[float, Event], ...] = (*UP, *MISSES, (8.0, WantDown()), (9.0, Gone(1, "killed")))
    again: tuple[tuple[float, Event], ...] = ((10.0, WantUp()), (11.0, Answered(2)), (12.0, Gone(2, "exit status 1")))
    assert causes(*ended, *again) == [Cause.EXITED]


def test_a_kill_repeated_keeps_the_cause_of_the_first() -> None:
    repeated: tuple[tuple[float, Event], ...] = ((20.0, Tick()), (30.0, Tick()), (31.0, Gone(1, "killed")))
    assert causes(*UP, *MISSES, *repeated) == [Cause.UNRESPONSIVE]


def test_a_drain_that_takes_too_long_is_no_fault() -> None:
    before, _ = step(ChildState(Want.UP, Phase.DRAINING, life=1, deadline_s=5.0), Tick(), 4.0, POLICY, 0.0)
    after, _ = step(before, Tick(), 5.0, POLICY, 0.0)
    assert (after.phase, after.asked) == (Phase.STOPPING, True)
    assert cause_of(before, Tick(), after, None) is None


EVENTS = st.one_of(
    st.sampled_from([WantUp(), WantDown(), Restart(), Tick()]),
    st.builds(Answered, st.integers(1, 4)),
    st.builds(Missed, st.integers(1, 4)),
    st.builds(Stuck, st.integers(1, 4), st.none(), st.just("x")),
    st.builds(Unfit, st.integers(1, 4), st.just("x")),
    st.builds(Gone, st.integers(1, 4), st.just("x")),
)


@given(st.lists(st.tuples(st.floats(0, 50), EVENTS), max_size=60))
def test_in_every_history_each_death_has_one_cause_and_the_living_have_at_most_one(
    history: list[tuple[float, Event]],
) -> None:
    state, cause, now_s = ChildState(), None, 0.0
    for pause_s, event in history:
        now_s += pause_s
        before = state
        state, _ = step(before, event, now_s, POLICY, 0.5)
        cause = cause_of(before, event, state, cause)
        if state.deaths > before.deaths:
            assert cause is not None
            cause = None
        if state.phase in {Phase.STARTING, Phase.READY}:
            assert cause is None, "what serves is not being ended"
