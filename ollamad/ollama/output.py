"""What an `ollama serve` prints, made into log events.

One process prints in many voices: Go's text log (`time=… level=… msg=…`), the older `2026/11/24 03:16:00
routes.go:1259: INFO …`, gin's access log (`[GIN] …`), `Error: …` before it exits, and its runners' raw lines. Nothing
here is needed for correctness: what is not understood is shown as it is.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from typing import Final

LINE_MAX_BYTES: Final = 8192
"""A longer line is cut here; the rest of it is dropped. A runner that prints without newlines can't fill the memory."""

_LEVELS: Final = {
    "TRACE": "debug",
    "DEBUG": "debug",
    "INFO": "info",
    "WARN": "warning",
    "WARNING": "warning",
    "ERROR": "error",
}
LINES_TOLD: Final = 20
FRESH_S: Final = 10.0
"""An error of longer ago than this is not what a process died of."""

_OUR_OWN: Final = re.compile(r'^\[GIN\] .*\| 200 \|.* GET +"/api/(?:version|ps)"$')
_SLOG: Final = re.compile(r"^time=\S+ level=(?P<level>[A-Z]+)(?:[+-]\d+)? (?:source=\S+ )?msg=(?P<rest>.*)$")
_OLDER: Final = re.compile(r"^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \S+ (?P<level>[A-Z]+) (?P<rest>.*)$")


@dataclass(frozen=True, slots=True)
class OutputLine:
    """One line that a child printed."""

    level: str
    """`debug`, `info`, `warning` or `error`, as Ollama says; `debug` for what has no level: access logs and runners."""
    text: str


def parse_line(line: str) -> OutputLine:
    """Read a line's level and what is left of it to read."""
    if match := _SLOG.match(line) or _OLDER.match(line):
        return OutputLine(_LEVELS.get(match["level"], "info"), _unquoted(match["rest"]))
    if line.startswith(("Error: ", "fatal error: ", "panic: ")):
        return OutputLine("error", line)
    return OutputLine("debug", line)


def is_of_a_probe(line: str) -> bool:
    """Whether this only says that a probe of ours was answered: two lines a second, which push out all others."""
    return _OUR_OWN.match(line) is not None


class LastWords:
    """What a process printed last, and what of it tells why it ended. Times are seconds of one clock."""

    def __init__(self) -> None:
        self.lines: deque[str] = deque(maxlen=LINES_TOLD)
        self._error = ""
        self._error_s = 0.0

    def add(self, line: OutputLine, now_s: float) -> None:
        """It has printed this."""
        self.lines.append(line.text)
        if line.level == "error":
            self._error, self._error_s = line.text, now_s

    def explain(self, now_s: float, *, failed: bool) -> str:
        """Its error of just now; where there is none and it `failed` by itself, its last line, such as the linker's."""
        if self._error and now_s - self._error_s <= FRESH_S:
            return self._error
        return self.lines[-1] if failed and self.lines else ""


def _unquoted(text: str) -> str:
    """`"total blobs: 0"` without its quotes, whatever follows it kept."""
    if not text.startswith('"'):
        return text
    end = re.match(r'"((?:[^"\\]|\\.)*)"', text)
    return text if end is None else end[1].replace('\\"', '"') + text[end.end() :]


class LineSplitter:
    """Bytes in, whole lines out, in bounded memory."""

    def __init__(self) -> None:
        self._held = b""
        self._cut = False

    def feed(self, data: bytes) -> list[str]:
        """The lines that `data` completes."""
        *whole, rest = (self._held + data).split(b"\n")
        lines = []
        for line in whole:
            if not self._cut:
                lines.append(_text(line))
            self._cut = False
        if len(rest) > LINE_MAX_BYTES and not self._cut:
            lines.append(_text(rest))
            self._cut = True
        self._held = b"" if self._cut else rest
        return lines

    def end(self) -> list[str]:
        """What is left when the output ends without a newline."""
        left, self._held = self._held, b""
        return [_text(left)] if left else []


def _text(line: bytes) -> str:
    return line[:LINE_MAX_BYTES].decode("utf-8", "replace").rstrip("\r")
