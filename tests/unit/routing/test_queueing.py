from __future__ import annotations

from math import inf

from hypothesis import given
from hypothesis import strategies as st

from ollamad.routing.queueing import Source, expected_wait_s

SOURCES = st.lists(st.builds(Source, st.floats(0, 50), st.integers(0, 8), st.floats(0, 5)), max_size=5)
PLACES = st.integers(0, 100)


def test_one_full_child_frees_a_slot_after_its_rate() -> None:
    assert expected_wait_s(0, [Source(0.0, 0, 0.5)]) == 2.0
    assert expected_wait_s(3, [Source(0.0, 0, 0.5)]) == 8.0


def test_slots_that_come_later_serve_as_many_at_once() -> None:
    sources = [Source(10.0, 4, 1.0)]
    assert [expected_wait_s(place, sources) for place in (0, 3, 4)] == [10.0, 10.0, 11.0]


def test_who_is_served_the_moment_more_slots_come_does_not_wait_for_a_rate() -> None:
    one_a_second, later = Source(0.0, 0, 1.0), Source(10.0, 4, 1.0)
    waits = [expected_wait_s(place, [later, one_a_second]) for place in (0, 8, 9, 10, 13, 14, 15)]
    assert waits == [1.0, 9.0, 10.0, 10.0, 10.0, 10.5, 11.0]


def test_without_a_source_the_wait_is_endless() -> None:
    assert expected_wait_s(0, []) == inf


@given(PLACES, SOURCES, st.builds(Source, st.floats(0, 50), st.integers(0, 8), st.floats(0, 5)))
def test_one_more_source_never_makes_it_longer(place: int, sources: list[Source], more: Source) -> None:
    assert expected_wait_s(place, [*sources, more]) <= expected_wait_s(place, sources) + 1e-6


@given(PLACES, SOURCES)
def test_who_is_further_back_never_waits_less(place: int, sources: list[Source]) -> None:
    assert expected_wait_s(place, sources) <= expected_wait_s(place + 1, sources) + 1e-6
