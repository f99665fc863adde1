"""Facts as text: sizes, times, tables. Pure.

Names of models and lines of children come from strangers: whatever is not printable leaves here as `?`, so that no
model can move the cursor or recolour a terminal.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

NOTHING: Final = "-"
GAP: Final = "  "
SHRUNK_MIN: Final = 8
"""A column that may be cut is not cut below this many cells."""

_MINUTE_S: Final = 60
_HOUR_S: Final = 3600
_DAY_S: Final = 86_400
_TENTHS_BELOW_S: Final = 10
_KIB: Final = 1024
_WIDE: Final = frozenset({"W", "F"})


def size(count: float | None) -> str:
    """`19.8 GiB`."""
    if count is None:
        return NOTHING
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(amount) < _KIB:
            return f"{amount:.0f} {unit}" if unit in {"B", "KiB"} else f"{amount:.1f} {unit}"
        amount /= _KIB
    return f"{amount:.1f} TiB"


def part(used: float | None, total: float | None) -> str:
    """`14.2 of 24.0 GiB`: how much of a whole, in the whole's unit."""
    if used is None or total is None:
        return size(used) if total is None else f"? of {size(total)}"
    whole = size(total)
    number, _, unit = whole.partition(" ")
    scale = _KIB ** ("B", "KiB", "MiB", "GiB", "TiB").index(unit)
    return f"{used / scale:.1f} of {number} {unit}"


def span(seconds: float | None) -> str:
    """`3.2s`, `45s`, `2m03s`, `5h12m`, `3d4h`."""
    if seconds is None:
        return NOTHING
    if seconds < _TENTHS_BELOW_S:
        return f"{max(0.0, seconds):.1f}s"
    whole = int(seconds)
    if whole < _MINUTE_S:
        return f"{whole}s"
    if whole < _HOUR_S:
        return f"{whole // _MINUTE_S}m{whole % _MINUTE_S:02}s"
    if whole < _DAY_S:
        return f"{whole // _HOUR_S}h{whole % _HOUR_S // _MINUTE_S:02}m"
    return f"{whole // _DAY_S}d{whole % _DAY_S // _HOUR_S}h"


def number(value: object, unit: str = "") -> str:
    """A reading with its unit; nothing where there is none."""
    return NOTHING if value is None else f"{value}{unit}"


def printable(text: str) -> str:
    """Without anything that a terminal would obey."""
    return "".join(character if character.isprintable() else "?" for character in text)


def cells(text: str) -> int:
    """How many cells of a terminal it takes."""
    return sum(_cells(character) for character in text)


def _cells(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in _WIDE else 1


def cut(text: str, width: int) -> str:
    """At most `width` cells of it, with `…` where something is missing."""
    if cells(text) <= width:
        return text
    kept, used = [], 0
    for character in text:
        used += _cells(character)
        if used > width - 1:
            break
        kept.append(character)
    return "".join(kept) + "…" * (width > 0)


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    title: str
    right: bool = False
    """Whether its cells end in line, as numbers do."""
    shrinks: bool = False
    """Whether it may be cut where the terminal is narrow."""
    drops: bool = False
    """Whether it may be left out where that is not enough."""


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None = None) -> list[str]:
    """The lines of a table, at most `width` cells wide where a width is given. Nothing ends in blanks."""
    clean = [[printable(cell) for cell in row] for row in rows]
    widths = [max([cells(column.title), *(cells(row[at]) for row in clean)]) for at, column in enumerate(columns)]
    shown = _shown(columns, widths, width)
    columns, widths = [columns[at] for at in shown], [widths[at] for at in shown]
    clean = [[row[at] for at in shown] for row in clean]
    if width is not None:
        _shrink(columns, widths, width)
    lines = [_line(columns, widths, row) for row in ([column.title for column in columns], *clean)]
    return lines if width is None else [cut(line, width) for line in lines]


def _shown(columns: Sequence[Column], widths: Sequence[int], width: int | None) -> list[int]:
    """The columns that there is room for: the last of those that may be left out goes first."""
    least = [min(room, SHRUNK_MIN) if column.shrinks else room for column, room in zip(columns, widths, strict=True)]
    shown = list(range(len(columns)))
    while width is not None and sum(least[at] for at in shown) + len(GAP) * (len(shown) - 1) > width:
        able = [at for at in shown if columns[at].drops]
        if not able:
            break
        shown.remove(able[-1])
    return shown


def _shrink(columns: Sequence[Column], widths: list[int], width: int) -> None:
    """Take from the widest of the columns that may be cut, cell by cell, until it fits or nothing can be taken."""
    able = [at for at, column in enumerate(columns) if column.shrinks]
    while sum(widths) + len(GAP) * (len(widths) - 1) > width:
        widest = max(able, key=lambda at: widths[at], default=None)
        if widest is None or widths[widest] <= SHRUNK_MIN:
            return
        widths[widest] -= 1


def _line(columns: Sequence[Column], widths: Sequence[int], row: Sequence[str]) -> str:
    padded = []
    for column, room, cell in zip(columns, widths, row, strict=True):
        shown = cut(cell, room)
        blanks = " " * (room - cells(shown))
        padded.append(blanks + shown if column.right else shown + blanks)
    return GAP.join(padded).rstrip()
