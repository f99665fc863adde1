from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamad.fleet.smoothing import Smoothed


def test_a_new_level_is_reached_to_63_percent_after_the_time_constant() -> None:
    assert Smoothed(0.0, 0.0).with_reading(100.0, 5.0, 5.0).value == pytest.approx(63.2, abs=0.1)


@given(st.integers(1, 50))
def test_how_often_it_is_read_makes_no_difference(steps: int) -> None:
    smoothed = Smoothed(0.0, 0.0)
    for step in range(1, steps + 1):
        smoothed = smoothed.with_reading(100.0, 5.0 * step / steps, 5.0)
    assert smoothed.value == pytest.approx(63.2, abs=0.1)


def test_a_reading_that_is_no_newer_changes_nothing() -> None:
    smoothed = Smoothed(10.0, 5.0)
    assert smoothed.with_reading(100.0, 5.0, 5.0) == smoothed.with_reading(100.0, 4.0, 5.0) == smoothed


@given(st.floats(0, 100), st.lists(st.tuples(st.floats(0, 100), st.floats(0, 1e6))))
def test_it_stays_within_what_was_read(first: float, readings: list[tuple[float, float]]) -> None:
    smoothed = Smoothed(first, 0.0)
    for value, at_s in readings:
        smoothed = smoothed.with_reading(value, at_s, 5.0)
    values = [first, *(value for value, _ in readings)]
    assert min(values) - 1e-9 <= smoothed.value <= max(values) + 1e-9
