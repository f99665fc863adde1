"""Progress of what takes long: a line that is written over on a terminal, a line for each new step elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Self, TextIO

from ollamad.cli.ctl.text import cut, printable, size

BAR_CELLS: Final = 24
WIPE: Final = "\r\x1b[K"


def bar(share: float, width: int = BAR_CELLS) -> str:
    """`[######......]`: it reads the same in a log, over a slow line, and aloud."""
    filled = round(max(0.0, min(1.0, share)) * width)
    return f"[{'#' * filled}{'.' * (width - filled)}]"


def pull_line(record: Mapping[str, Any]) -> str:
    """One step of a download as a line."""
    said = printable(str(record.get("step", "")))
    total = record.get("total_bytes")
    if not total:
        return said
    done = record.get("completed_bytes", 0)
    return f"{said} {bar(done / total)} {size(done)} of {size(total)}"


class Ticker:
    """Shows how something stands. Used as a context, so that the last line is ended however it ends."""

    def __init__(self, out: TextIO, width: int | None) -> None:
        self._out = out
        self._width = width
        """Columns of the terminal; None where it is none."""
        self._last = ""
        self._open = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._end_line()

    def show(self, line: str, step: str | None = None) -> None:
        """How it stands now. Where nothing can be written over, only a new `step` (or line) is worth a line."""
        key = line if step is None else step
        if self._width is not None:
            if key != self._last:
                self._end_line()
            print(f"{WIPE}{cut(line, self._width - 1)}", end="", file=self._out, flush=True)
            self._open = True
        elif key != self._last:
            print(key, file=self._out, flush=True)
        self._last = key

    def _end_line(self) -> None:
        if self._open:
            print(file=self._out, flush=True)
            self._open = False
