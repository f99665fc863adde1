"""The end of a body that is kept while it passes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ollamad.upstream.tail import TAIL_MAX_BYTES, Tail

PIECES = st.lists(st.binary(min_size=1, max_size=300).map(lambda line: line.replace(b"\n", b"") + b"\n"), max_size=60)


@given(PIECES, st.integers(1, 40))
def test_it_is_the_end_of_the_body_and_has_its_last_kilobyte(pieces: list[bytes], times: int) -> None:
    whole, tail = b"".join(pieces) * times, Tail()
    for piece in pieces * times:
        tail.add(piece)
    kept = tail.bytes()
    assert whole.endswith(kept)
    assert min(len(whole), 1024) <= len(kept) <= TAIL_MAX_BYTES
    assert tail.ends_line() == whole.endswith(b"\n")


@given(st.integers(1, 7000), st.integers(0, 200))
def test_a_last_record_is_whole_however_it_comes_in_pieces(size: int, before: int) -> None:
    record, tail = b'{"done":true,"x":"' + b"y" * size + b'"}\n', Tail()
    for _ in range(before):
        tail.add(b'{"response":"token"}\n')
    for at in range(0, len(record), 512):
        tail.add(record[at : at + 512])
    assert tail.bytes().splitlines(keepends=True)[-1] == record


def test_thousands_of_small_records_keep_it_small() -> None:
    tail = Tail()
    for _ in range(10_000):
        tail.add(b'{"response":"token"}\n')
        assert tail._size <= 4096


def test_a_body_without_lines_is_bounded_too() -> None:
    tail = Tail()
    for _ in range(100):
        tail.add(b"x" * 1000)
        assert tail._size <= 2 * TAIL_MAX_BYTES + 1000
    tail.add(b"y" * 1_000_000)
    assert tail.bytes() == b"y" * TAIL_MAX_BYTES
