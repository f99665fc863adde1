"""Facts as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamad.cli.ctl.text import GAP, Column, cells, cut, number, part, printable, size, span, table

MIB, GIB = 1024**2, 1024**3


@pytest.mark.parametrize(
    ("count", "said"),
    [(None, "-"), (0, "0 B"), (1023, "1023 B"), (2048, "2 KiB"), (int(1.5 * MIB), "1.5 MiB"), (24 * GIB, "24.0 GiB")],
)
def test_sizes(count: int | None, said: str) -> None:
    assert size(count) == said


def test_a_very_large_size() -> None:
    assert size(3 * 1024**4) == "3.0 TiB"


@pytest.mark.parametrize(
    ("used", "total", "said"),
    [
        (6 * GIB, 24 * GIB, "6.0 of 24.0 GiB"),
        (0, 24 * GIB, "0.0 of 24.0 GiB"),
        (512 * MIB, 24 * GIB, "0.5 of 24.0 GiB"),
        (None, 24 * GIB, "? of 24.0 GiB"),
        (6 * GIB, None, "6.0 GiB"),
        (None, None, "-"),
    ],
)
def test_a_part_is_told_in_the_unit_of_its_whole(used: int | None, total: int | None, said: str) -> None:
    assert part(used, total) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, "-"),
        (-0.1, "0.0s"),
        (3.14, "3.1s"),
        (59.9, "59s"),
        (123, "2m03s"),
        (18_720, "5h12m"),
        (3 * 86_400 + 4 * 3600, "3d4h"),
    ],
)
def test_times(seconds: float | None, said: str) -> None:
    assert span(seconds) == said


def test_readings() -> None:
    assert (number(97, "%"), number(0, "%"), number(None, "%")) == ("97%", "0%", "-")


@given(st.text())
def test_nothing_that_a_terminal_would_obey_is_printed(text: str) -> None:
    assert printable(text).isprintable()


def test_a_hostile_name_is_told_without_its_sequences() -> None:
    assert printable("\x1b[2Jllama\r\n\x9b3") == "?[2Jllama???3"


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"])), st.integers(1, 30))
def test_what_is_cut_fits(text: str, width: int) -> None:
    assert cells(cut(text, width)) <= width
    assert cut(text, width) == text or cut(text, width).endswith("…")


def test_wide_characters_take_two_cells() -> None:
    assert cells("漢字a") == 5
    assert cut("漢字a", 4) == "漢…"


COLUMNS = (Column("NAME", shrinks=True), Column("N", right=True), Column("WHY", shrinks=True))
DROPPING = (Column("A"), Column("B", drops=True), Column("C", drops=True), Column("D"))
ROWS = st.lists(st.lists(st.text(max_size=30), min_size=3, max_size=3), max_size=5)


@given(ROWS, st.integers(1, 100))
def test_a_table_is_never_wider_than_the_terminal(rows: list[list[str]], width: int) -> None:
    lines = table(COLUMNS, rows, width)
    assert len(lines) == len(rows) + 1
    assert all(cells(line) <= width and line == line.rstrip() for line in lines)


@given(ROWS)
def test_where_nothing_need_fit_nothing_is_cut(rows: list[list[str]]) -> None:
    text = "\n".join(table(COLUMNS, rows))
    assert all(printable(cell).rstrip() in text for row in rows for cell in row)


def test_columns_stand_in_line_numbers_at_their_end() -> None:
    assert table(COLUMNS, [["a", "1", "x"], ["longer", "100", ""]]) == [
        "NAME      N  WHY",
        "a         1  x",
        "longer  100",
    ]


def test_the_widest_column_that_may_be_cut_is_cut_first() -> None:
    (_, line) = table(COLUMNS, [["a" * 9, "100000", "b" * 40]], 40)
    assert line == GAP.join(["a" * 9, "100000", "b" * 20 + "…"])


@pytest.mark.parametrize(
    ("width", "line"),
    [(26, "aaaaa  bbbbb  ccccc  ddddd"), (25, "aaaaa  bbbbb  ddddd"), (18, "aaaaa  ddddd"), (5, "aaaa…")],
)
def test_columns_that_may_be_left_out_go_from_the_last(width: int, line: str) -> None:
    assert table(DROPPING, [["a" * 5, "b" * 5, "c" * 5, "d" * 5]], width)[1] == line
