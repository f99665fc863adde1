from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ollamad.supervision.policy import RestartPolicy, backoff_s

POLICY = RestartPolicy(backoff_initial_s=0.5, backoff_max_s=60.0, backoff_jitter=0.25)
LUCK = st.floats(min_value=0, max_value=1, exclude_max=True)


def test_the_first_death_costs_no_wait() -> None:
    assert backoff_s(1, POLICY, luck=0.9) == 0.0


def test_the_wait_doubles_from_the_second_death_on() -> None:
    assert [backoff_s(failures, POLICY, luck=0.0) for failures in range(2, 7)] == [0.5, 1.0, 2.0, 4.0, 8.0]


@given(failures=st.integers(min_value=0, max_value=10**9), luck=LUCK)
def test_no_wait_is_over_the_cap_or_under_zero(failures: int, luck: float) -> None:
    assert 0.0 <= backoff_s(failures, POLICY, luck) <= POLICY.backoff_max_s


@given(failures=st.integers(min_value=2, max_value=10**6), luck=LUCK)
def test_jitter_takes_off_no_more_than_its_share(failures: int, luck: float) -> None:
    full = backoff_s(failures, POLICY, luck=0.0)
    assert full * (1 - POLICY.backoff_jitter) <= backoff_s(failures, POLICY, luck) <= full


@given(failures=st.integers(min_value=1, max_value=1000))
def test_another_death_never_shortens_the_wait(failures: int) -> None:
    assert backoff_s(failures + 1, POLICY, luck=0.0) >= backoff_s(failures, POLICY, luck=0.0)
