"""Following a window of last lines."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ollamad.control.tail import fresh


@given(st.integers(1, 8), st.integers(0, 40), st.integers(0, 8))
def test_lines_that_all_differ_are_each_seen_once_while_they_come_slowly_enough(
    kept: int, before: int, more: int
) -> None:
    lines = [str(number) for number in range(before + more)]
    seen = lines[max(0, before - kept) : before]
    now = lines[-kept:] if lines else []
    new, gap = fresh(seen, now)
    expected = lines[max(before, len(lines) - kept) :]
    assert list(new) == expected
    assert gap == (bool(seen) and more >= kept)


@given(st.lists(st.sampled_from("ab"), max_size=6), st.lists(st.sampled_from("ab"), max_size=6))
def test_what_is_new_is_always_the_end_of_what_is_there_now(before: list[str], now: list[str]) -> None:
    new, _ = fresh(before, now)
    assert list(new) == now[len(now) - len(new) :]


def test_nothing_new_is_nothing_missed() -> None:
    assert fresh(["a"], ["a"]) == ([], False)
    assert fresh([], ["a"]) == (["a"], False)
    assert fresh(["a"], []) == ([], False)
