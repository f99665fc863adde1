from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ollamad.access.bucket import Bucket, draw, full

RATES = st.integers(1, 10_000)
PAUSES = st.lists(st.floats(0, 90), min_size=1, max_size=60)


@given(RATES, PAUSES)
def test_in_no_span_of_time_is_more_granted_than_a_minute_s_worth_and_the_rate(rate: int, pauses: list[float]) -> None:
    now_s, bucket, granted = 100.0, full(rate, 100.0), 0
    for pause_s in pauses:
        now_s += pause_s
        for _ in range(min(rate + 2, 50)):
            bucket, wait_s = draw(bucket, rate, now_s)
            granted += not wait_s
        assert granted <= rate + (now_s - 100.0) * rate / 60 + 1e-6


@given(RATES, st.floats(0, 1), st.floats(0, 1e6))
def test_who_comes_back_when_told_to_is_granted(rate: int, tokens: float, now_s: float) -> None:
    bucket, wait_s = draw(Bucket(tokens, now_s), rate, now_s)
    if wait_s:
        assert draw(bucket, rate, now_s + wait_s + 1e-3)[1] == 0


def test_a_clock_that_stands_still_or_goes_back_fills_nothing() -> None:
    assert draw(Bucket(0.0, 100.0), 60, 90.0)[1] > 0


@given(RATES)
def test_a_quiet_minute_fills_it_and_no_more_than_that(rate: int) -> None:
    bucket, _ = draw(Bucket(0.0, 10.0), rate, 1000.0)
    assert bucket.tokens == rate - 1
