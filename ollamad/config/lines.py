"""Where in a TOML text a key stands, so that an error can name the line. The standard parser keeps no positions."""

from __future__ import annotations

import re

_TABLE = re.compile(r"^\s*\[\s*([^\[\],]+?)\s*\]\s*(#.*)?$")
_KEY = re.compile(r"""^\s*([A-Za-z0-9_\-."' ]+?)\s*=""")
_QUOTES = str.maketrans("", "", "\"' ")


def key_lines(text: str) -> dict[str, int]:
    """Line number, from 1, of each dotted key and table that is written on a line of its own.

    A guess good enough to point at: what it can't see (keys of inline tables) is simply absent, and lines
    inside a multi-line string may be taken for keys, which nobody asks for.
    """
    lines: dict[str, int] = {}
    table = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _TABLE.match(line):
            table = header.group(1).translate(_QUOTES)
            lines.setdefault(table, number)
        elif key := _KEY.match(line):
            name = key.group(1).translate(_QUOTES)
            lines.setdefault(f"{table}.{name}" if table else name, number)
    return lines
