"""The picture of `ollamactl top`."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ollamad.cli.ctl import screen
from ollamad.cli.ctl.text import cells
from ollamad.routing.snapshot import Snapshot
from ollamad.status.view import status
from tests.support.control_face import child, gpu, two_children


def fleet(number: int) -> dict[str, Any]:
    children = two_children() if number == 2 else tuple(child(f"gpu{at}", gpus=(gpu(at),)) for at in range(number))
    return status(Snapshot(100.0, children))


def streams(number: int) -> dict[str, Any]:
    one = {"child": "gpu0", "model": "m:latest", "age_s": 1.0, "heard_age_s": None, "held": False}
    return {"waiting": 0, "requests": [one] * number}


@given(st.integers(0, 16), st.integers(0, 40), st.integers(1, 200), st.integers(1, 60), st.text(max_size=40))
def test_it_is_never_more_or_wider_than_the_terminal(
    gpus: int, number: int, width: int, height: int, alert: str
) -> None:
    lines = screen.picture(fleet(gpus), streams(number), width, height, alert)
    assert 1 <= len(lines) <= height
    assert all(cells(line) <= width for line in lines)
    assert all(line.isprintable() for line in lines)


def test_gpus_are_drawn_as_bars_where_there_is_room() -> None:
    lines = screen.picture(fleet(2), streams(1), 120, 40)
    assert any("[####............]  6.0 of 24.0 GiB  [##########......]  61%" in line for line in lines)


def test_on_a_low_screen_children_and_requests_go_before_the_bars() -> None:
    lines = screen.picture(fleet(16), streams(1), 120, 24)
    assert not any("[####" in line for line in lines)
    assert sum(line.startswith("gpu") for line in lines) >= 16


def test_what_does_not_fit_is_counted() -> None:
    lines = screen.picture(fleet(2), streams(100), 120, 20)
    assert lines[-1].startswith("… ")
    assert lines[-1].endswith(" more lines")


def test_old_facts_are_shown_as_old() -> None:
    (title, *_) = screen.picture(fleet(2), streams(0), 120, 40, "NO ANSWER for 5.0s:")
    assert title.startswith("NO ANSWER for 5.0s:")


def test_before_the_first_answer_it_says_what_it_waits_for() -> None:
    assert screen.waiting("no ollamad answers", 80, 24)[0] == "no ollamad answers"
