from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ollamad.sim.recital import Done, recital

WORDS = ("a", "b", "c")


def test_words_come_in_their_order_round_and_round() -> None:
    pieces = list(recital(WORDS, 5, (), Done.LENGTH))
    assert [piece.text for piece in pieces] == [" a", " b", " c", " a", " b"]
    assert [piece.done for piece in pieces] == [None] * 4 + [Done.LENGTH]


def test_a_stop_sequence_ends_it_and_is_not_said() -> None:
    pieces = list(recital(WORDS, 9, ("c a",), Done.LENGTH))
    assert "".join(piece.text for piece in pieces) == " a b "
    assert pieces[-1].done is Done.STOP


@given(st.integers(1, 40), st.lists(st.text("abc ", min_size=1, max_size=4), max_size=3))
def test_no_stop_sequence_is_ever_said(length: int, stop: list[str]) -> None:
    pieces = list(recital(WORDS, length, stop, Done.LENGTH))
    text = "".join(piece.text for piece in pieces)
    whole = "".join(f" {WORDS[index % 3]}" for index in range(length))
    assert len(pieces) <= length
    assert whole.startswith(text)
    assert not any(sequence in text for sequence in stop)
    assert (pieces[-1].done is Done.STOP) == any(sequence in whole for sequence in stop)
