from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamad.supervision.progress import Hang, Loading, Patience, Pulse, Stream, hang

NOW = 10_000.0
PATIENCE = Patience(stream_s=60, first_byte_s=300, busy_s=3600, load_s=900, stopping_s=50, ps_s=40)
WARM: dict[str, float | None] = {"m": None}


def begun(silent_s: float, model: str = "m", *, held: bool = False) -> Stream:
    return Stream(model, since_s=NOW - 1000, heard_s=NOW - silent_s, held=held)


def waiting(for_s: float, model: str = "m") -> Stream:
    return Stream(model, since_s=NOW - for_s, heard_s=None)


def judge(
    *streams: Stream,
    expiries_s: dict[str, float | None] | None = WARM,
    ps_silent_since_s: float | None = None,
    busy: bool | None = None,
    usual_gaps_s: dict[str, float] | None = None,
) -> Hang | None:
    return hang(Pulse(streams, expiries_s, ps_silent_since_s, busy, usual_gaps_s), PATIENCE, NOW)


def test_a_stream_that_has_begun_and_gone_silent_is_a_hang_of_its_model() -> None:
    assert judge(begun(1), begun(60, "n")) == Hang("n", "a stream of n has been silent for 60 s")
    assert judge(begun(59.9)) is None


def test_a_client_that_takes_nothing_is_not_the_child_s_fault() -> None:
    assert judge(begun(5000, held=True)) is None


def test_a_model_that_pauses_long_by_nature_gets_ten_times_its_usual_pause() -> None:
    assert judge(begun(199), usual_gaps_s={"m": 20.0}) is None
    assert judge(begun(200), usual_gaps_s={"m": 20.0}) is not None
    assert judge(begun(60), usual_gaps_s={"m": 0.02}) is not None
    brief = replace(PATIENCE, stream_s=5.0)
    assert hang(Pulse((begun(5),), WARM, usual_gaps_s={"n": 20.0}), brief, NOW) is not None


def test_a_request_that_nobody_works_on_is_a_hang() -> None:
    found = judge(waiting(300), busy=False)
    assert found == Hang("m", "m has not begun to answer for 300 s, and its device does nothing")
    assert judge(waiting(299), busy=False) is None


@pytest.mark.parametrize("busy", [True, None])
def test_a_long_prompt_or_a_long_answer_in_one_piece_keeps_the_device_busy_and_is_no_hang(*, busy: bool | None) -> None:
    assert judge(waiting(3599), busy=busy) is None
    assert judge(waiting(3600), busy=busy) == Hang("m", "m has not begun to answer for 3600 s")


def test_a_request_that_is_queued_behind_a_stream_that_goes_on_is_no_hang() -> None:
    assert judge(waiting(5000), begun(1), busy=False) is None


def test_loading_is_judged_by_its_own_limit() -> None:
    assert judge(waiting(899), expiries_s={}, busy=False) is None
    assert judge(waiting(900), expiries_s={}) == Hang("m", "m has been loading for 900 s")


def test_a_load_of_ollamad_s_own_is_judged_by_the_same_limit_whatever_else_goes_well() -> None:
    def loading(for_s: float, *streams: Stream) -> Hang | None:
        return hang(Pulse(streams, WARM, busy=False, loading=Loading("m", NOW - for_s)), PATIENCE, NOW)

    assert loading(899) is None
    assert loading(900, begun(1, "n")) == Hang("m", "m has been loading for 900 s")


def test_only_the_request_that_waits_longest_is_judged_for_those_behind_it_queue() -> None:
    assert judge(waiting(400), waiting(100, "n"), expiries_s={"n": None}, busy=False) is None


def test_before_ps_was_ever_answered_nothing_is_said_of_what_is_loaded() -> None:
    assert judge(waiting(5000), expiries_s=None, busy=False) is None


def test_a_model_that_stays_long_after_its_time_with_nobody_using_it_is_a_hang() -> None:
    assert judge(expiries_s={"m": NOW - 50}) == Hang("m", "m should have been unloaded 50 s ago, and nobody uses it")
    assert judge(expiries_s={"m": NOW - 49}) is None
    assert judge(begun(1), expiries_s={"m": NOW - 500}) is None, "it answers: its time is put off when that ends"


def test_ps_that_blocks_for_long_is_a_hang_of_nobody_in_particular() -> None:
    assert judge(ps_silent_since_s=NOW - 40) == Hang(None, "/api/ps has not been answered for 40 s")
    assert judge(ps_silent_since_s=NOW - 39) is None


STREAMS = st.builds(
    Stream,
    st.sampled_from("mn"),
    st.floats(0, 5000),
    st.none() | st.floats(5000, NOW),
    st.booleans(),
)
PULSES = st.builds(
    Pulse,
    st.lists(STREAMS, max_size=5).map(tuple),
    st.none() | st.dictionaries(st.sampled_from("mn"), st.none() | st.floats(0, NOW)),
    st.none() | st.floats(0, NOW),
    st.none() | st.booleans(),
    st.none() | st.dictionaries(st.sampled_from("mn"), st.floats(0, 100)),
)


@given(PULSES, st.floats(0, 10_000))
def test_what_is_stuck_stays_stuck_while_nothing_is_heard(pulse: Pulse, later_s: float) -> None:
    if hang(pulse, PATIENCE, NOW):
        assert hang(pulse, PATIENCE, NOW + later_s)


@given(PULSES)
def test_a_child_that_is_heard_on_every_stream_and_keeps_its_models_is_never_stuck(pulse: Pulse) -> None:
    streams = tuple(replace(stream, heard_s=NOW - 1) for stream in pulse.streams)
    lively = replace(pulse, streams=streams, expiries_s=WARM, ps_silent_since_s=None)
    assert hang(lively, PATIENCE, NOW) is None


@given(PULSES)
def test_what_would_be_stuck_for_a_child_of_unknown_work_is_stuck_for_an_idle_one(pulse: Pulse) -> None:
    if hang(replace(pulse, busy=None), PATIENCE, NOW):
        assert hang(replace(pulse, busy=False), PATIENCE, NOW)
