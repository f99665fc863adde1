"""Progress of what takes long."""

from __future__ import annotations

import io

import pytest

from ollamad.cli.ctl.progress import Ticker, bar, pull_line


@pytest.mark.parametrize(
    ("share", "said"), [(0, "[....]"), (0.5, "[##..]"), (1, "[####]"), (7, "[####]"), (-1, "[....]")]
)
def test_a_bar(share: float, said: str) -> None:
    assert bar(share, 4) == said


def test_a_record_of_a_pull_is_a_line() -> None:
    assert pull_line({"step": "pulling manifest"}) == "pulling manifest"
    half = pull_line({"step": "pulling abc", "total_bytes": 2048, "completed_bytes": 1024})
    assert half == "pulling abc [############............] 1 KiB of 2 KiB"
    assert pull_line({"step": "pulling abc", "total_bytes": 2048}).endswith("0 B of 2 KiB")


def test_on_a_terminal_one_step_is_written_over_and_the_next_gets_a_line_of_its_own() -> None:
    out = io.StringIO()
    with Ticker(out, 20) as ticker:
        ticker.show("a 1", "a")
        ticker.show("a 2", "a")
        ticker.show("b" * 30, "b")
    assert out.getvalue() == "\r\x1b[Ka 1\r\x1b[Ka 2\n\r\x1b[K" + "b" * 18 + "…\n"


def test_elsewhere_each_step_is_a_line_once() -> None:
    out = io.StringIO()
    with Ticker(out, None) as ticker:
        for line, step in (("a 1", "a"), ("a 2", "a"), ("b 1", "b")):
            ticker.show(line, step)
    assert out.getvalue() == "a\nb\n"
