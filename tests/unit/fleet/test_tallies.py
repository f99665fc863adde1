from __future__ import annotations

from bisect import bisect_left
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamad.errors import TurnedAway
from ollamad.fleet.happenings import Happening, Weight, of_child, of_gpu
from ollamad.fleet.tallies import OTHER, REASONS_MAX, WAITS_S, Histogram, Tallies
from ollamad.fleet.trip import TEXT_MAX, Outcome, Trip, travel
from ollamad.routing.knowledge import Tally
from ollamad.supervision.cause import Cause
from ollamad.supervision.gpu_health import Health, Verdict
from ollamad.supervision.state import ChildState, Phase


def tallies(*models: str, models_max: int = 3) -> Tallies:
    made = Tallies(models_max=models_max, requests_kept=3, events_kept=2)
    for model in models:
        made.meet(model)
    return made


def trip(model: str | None = "m:latest", outcome: Outcome | None = Outcome.SERVED, method: str = "POST") -> Trip:
    made = Trip(method, "/api/chat", "id", since_s=10.0, outcome=outcome, ended_s=12.5)
    made.names(model)
    return made


@given(st.lists(st.text(max_size=5), max_size=50))
def test_no_client_creates_a_series_by_inventing_a_name(names: list[str]) -> None:
    counted = tallies("m:latest")
    for name in names:
        counted.ended(trip(name))
    assert {model for model, _, _ in counted.requests} <= {"m:latest", OTHER}
    assert sum(counted.requests.values()) == len(names)


def test_of_more_models_than_there_is_room_for_the_first_keep_their_names() -> None:
    counted = tallies("a", "b", "c", "d", models_max=3)
    assert [counted.label(name) for name in ("a", "c", "d", None)] == ["a", "c", OTHER, ""]
    assert counted.models == ("a", "b", "c")


def test_a_request_that_was_answered_is_counted_with_all_that_it_took() -> None:
    counted = tallies("m:latest")
    answered = trip()
    answered.sent("gpu0", 0.2, "cold; 3.2 s")
    answered.sent("gpu1", 0.3, "warm; 0.1 s")
    answered.begun(200)
    answered.relayed(700, None)
    counted.ended(answered)
    assert counted.requests == {("m:latest", "gpu1", Outcome.SERVED): 1}
    assert counted.retries == 1
    assert counted.decisions == {"cold": 1, "warm": 1}
    assert counted.response_bytes == {"m:latest": 700}
    assert counted.queue_s.all["m:latest"].total == pytest.approx(0.5)
    assert counted.duration_s.all["m:latest"].total == pytest.approx(2.5)
    assert sum(counted.first_byte_s.all["m:latest"].counts) == 1


def streamed(tokens: int, first_s: float, last_s: float, *, in_pieces: bool = True) -> Trip:
    made = trip()
    made.sent("gpu0", 0.0, "warm")
    made.begun(200, streamed=in_pieces)
    made.relayed(700, None)
    made.tally = Tally(0.0, 10, 0.1, tokens, 1.0)
    made._begun_s, made._relayed_s = first_s, last_s
    return made


def test_the_time_between_tokens_is_the_mean_over_a_streamed_response() -> None:
    counted = tallies("m:latest")
    counted.ended(streamed(101, 20.0, 22.0))
    assert counted.inter_token_s.all["m:latest"].total == pytest.approx(0.02)


@pytest.mark.parametrize(
    "told", [streamed(2, 20.0, 22.0), streamed(101, 20.0, 20.0), streamed(101, 20.0, 22.0, in_pieces=False)]
)
def test_what_can_not_tell_the_time_between_tokens_is_no_observation(told: Trip) -> None:
    counted = tallies("m:latest")
    counted.ended(told)
    assert counted.inter_token_s.all == {}


def test_a_refused_request_is_counted_by_its_reason_and_in_no_histogram() -> None:
    counted = tallies()
    refused = trip(None)
    refused.is_refused(TurnedAway.QUEUE_FULL, 503, "too many wait")
    counted.ended(refused)
    assert counted.refusals == {TurnedAway.QUEUE_FULL: 1}
    assert counted.requests == {("", "", Outcome.REFUSED): 1}
    assert (counted.queue_s.all, counted.duration_s.all) == ({}, {})


def test_the_last_requests_are_kept_and_those_that_only_looked_are_not_unless_they_failed() -> None:
    counted = tallies()
    for model in ("a", "b", "c", "d"):
        counted.ended(trip(model))
    counted.ended(trip("look", method="GET"))
    assert [one.model for one in counted.last_requests] == ["b", "c", "d"]
    counted.ended(trip("failed", Outcome.NO_ANSWER, method="GET"))
    assert [one.model for one in counted.last_requests] == ["c", "d", "failed"]


def test_deaths_are_counted_by_child_and_cause_and_events_are_bounded() -> None:
    counted = tallies()
    for cause in (Cause.EXITED, Cause.STUCK, Cause.EXITED):
        counted.died("gpu0", cause)
    assert counted.deaths == {("gpu0", Cause.EXITED): 2, ("gpu0", Cause.STUCK): 1}
    counted.happened(Happening(float(at), "gpu0", Weight.INFO, "x") for at in range(5))
    assert [one.at_s for one in counted.happenings] == [3.0, 4.0]


@given(st.lists(st.floats(0, 1_000)))
def test_an_observation_is_in_the_first_bucket_whose_bound_it_does_not_pass(values: list[float]) -> None:
    histogram = Histogram(WAITS_S)
    for value in values:
        histogram.observe(value)
    assert sum(histogram.counts) == len(values)
    for index, bound in enumerate(WAITS_S):
        assert sum(histogram.counts[: index + 1]) == len([value for value in values if value <= bound])
    assert histogram.counts[-1] == len([value for value in values if bisect_left(WAITS_S, value) == len(WAITS_S)])


@pytest.mark.parametrize(
    ("status", "outcome"), [(200, Outcome.SERVED), (404, Outcome.SERVED), (500, Outcome.CHILD_ERROR)]
)
def test_what_a_child_answered_tells_how_it_ended(status: int, outcome: Outcome) -> None:
    answered = trip(outcome=None)
    answered.answered(status)
    assert (answered.outcome, answered.status) == (outcome, status)


def test_an_answer_that_broke_stays_broken_although_the_client_has_it() -> None:
    broken = trip(outcome=None)
    broken.sent("gpu0", 0.0, "warm")
    broken.begun(200)
    broken.relayed(10, "it is gone")
    broken.answered(200)
    assert (broken.outcome, broken.status, broken.sent_bytes) == (Outcome.BROKEN, 200, 10)


def test_a_trip_ends_however_its_block_is_left_and_keeps_little_of_the_client_s_words() -> None:
    ended: list[Trip] = []
    with suppress(ZeroDivisionError), travel("POST", "/" + "x" * 999, "i" * 999, ended.append) as going:
        going.names("m" * 999)
        raise ZeroDivisionError
    (found,) = ended
    assert found is going
    assert found.total_s >= 0
    assert {len(found.path), len(found.id), len(found.model or "")} == {TEXT_MAX}


def test_a_child_s_step_is_told_as_what_an_operator_would_say() -> None:
    def told(before: ChildState, after: ChildState) -> list[tuple[Weight, str]]:
        return [(one.weight, one.text) for one in of_child("gpu0", before, after, 1.0)]

    ready = ChildState(phase=Phase.READY)
    assert told(ready, ready) == []
    assert told(ChildState(phase=Phase.STARTING), ready) == [(Weight.INFO, "ready")]
    died = ChildState(phase=Phase.BACKOFF, deaths=1, reason="exit status 1")
    assert told(ready, died) == [(Weight.WARNING, "died: exit status 1")]
    failed = ChildState(phase=Phase.FAILED, deaths=1, reason="died 5 times")
    assert told(ready, failed) == [(Weight.ERROR, "failed: died 5 times")]
    ended = ChildState(phase=Phase.STOPPING, reason="did not answer")
    assert told(ready, ended) == [(Weight.WARNING, "is ended: did not answer")]
    barred = ChildState(phase=Phase.READY, quarantine="GPU 0: lost")
    assert told(ready, barred) == [(Weight.ERROR, "in quarantine: GPU 0: lost")]
    assert told(barred, ready) == [(Weight.INFO, "out of quarantine")]


def test_a_gpu_s_health_is_told_with_its_reason() -> None:
    assert of_gpu(3, Verdict(Health.QUARANTINED, "Xid 79"), 1.0) == Happening(
        1.0, "GPU 3", Weight.ERROR, "quarantined: Xid 79"
    )
    assert of_gpu(3, Verdict(), 1.0) == Happening(1.0, "GPU 3", Weight.INFO, "healthy")


def test_tokens_are_counted_as_the_child_counted_them_and_a_speed_only_where_there_is_enough_to_tell_by() -> None:
    counted = tallies("m:latest")
    for tally in (Tally(0.1, 20, 0.2, 100, 4.0), Tally(0.1, 5, 0.1, 2, 0.01), Tally(), None):
        one = trip()
        one.tally = tally
        counted.ended(one)
    assert counted.prompt_tokens == {"m:latest": 25}
    assert counted.output_tokens == {"m:latest": 102}
    assert counted.tokens_per_s.all["m:latest"].total == pytest.approx(25.0)


def test_loads_and_pauses_are_counted_by_model_and_a_failed_load_by_child() -> None:
    counted = tallies()
    counted.loaded("m:latest", 3.5)
    counted.load_failed("gpu0")
    counted.paused("m:latest", 0.2)
    counted.paused("invented", 0.2)
    assert counted.load_s.all["m:latest"].total == pytest.approx(3.5)
    assert counted.loads_failed == {"gpu0": 1}
    assert set(counted.longest_pause_s.all) == {"m:latest", OTHER}


def test_reasons_are_bounded_although_they_are_words() -> None:
    counted = tallies()
    for number in range(100):
        one = trip()
        one.sent("gpu0", 0.0, f"reason {number}")
        counted.ended(one)
    assert len(counted.decisions) == REASONS_MAX + 1
    assert sum(counted.decisions.values()) == 100
