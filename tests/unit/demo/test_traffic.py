from __future__ import annotations

import pytest

from ollamad.demo.stage import MODELS
from ollamad.demo.traffic import HABITS, parse_rate
from ollamad.ollama.names import canonical


@pytest.mark.parametrize(("text", "per_s"), [("5/s", 5.0), ("30/min", 0.5), ("0", 0.0), ("2.5", 2.5), ("200", 200.0)])
def test_a_rate_is_a_number_a_second_or_a_minute(text: str, per_s: float) -> None:
    assert parse_rate(text) == per_s


@pytest.mark.parametrize("text", ["", "x", "5/h", "-1", "201", "nan", "inf", "1e3", "5/s/s"])
def test_anything_else_is_refused_with_what_is_expected(text: str) -> None:
    with pytest.raises(ValueError, match="such as 5/s or 30/min"):
        parse_rate(text)


def test_only_models_that_the_demo_has_are_asked_for() -> None:
    assert {canonical(habit.model) for habit in HABITS} == set(map(canonical, MODELS))
