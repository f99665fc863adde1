"""What a Go program makes of numbers, times and JSON, so that answers are Ollama's to the byte."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

NS: Final = 1_000_000_000
FOREVER_NS: Final = 2**63 - 1
"""Go's longest duration, 292 years: what `keep_alive` -1 means."""

_UNITS: Final = {"ns": 1, "us": 1_000, "µs": 1_000, "ms": 1_000_000, "s": NS, "m": 60 * NS, "h": 3600 * NS}
_PART: Final = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|ms|s|m|h)")
_HTML: Final = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}
"""What Go's encoder escapes in every string, so that JSON may stand in HTML."""
_PLAIN_FROM: Final = 1e-6
_PLAIN_BELOW: Final = 1e21
"""Between these Go writes numbers without an exponent."""


def duration_ns(text: str) -> int:
    """A duration as `1h30m` or `-5s`, in nanoseconds. Raises ValueError in Go's words."""
    rest = text.removeprefix("-").removeprefix("+")
    if rest == "0":
        return 0
    parts = list(_PART.finditer(rest))
    if not parts or "".join(part[0] for part in parts) != rest:
        bare = re.fullmatch(r"\d+\.?\d*", rest) is not None
        raise ValueError(f'time: {"missing unit in" if bare else "invalid"} duration "{text}"')
    total = sum(round(float(part[1]) * _UNITS[part[2]]) for part in parts)
    return -total if text.startswith("-") else total


def keep_alive_ns(value: object) -> int:
    """What a request's `keep_alive` means: a number of whole seconds, or a duration; below zero is forever.

    Raises ValueError in Ollama's words.
    """
    if isinstance(value, bool):
        raise ValueError("Unsupported type: 'bool'")  # noqa: TRY004 - it becomes an answer, in these words
    if isinstance(value, int | float):
        length = int(value) * NS if value >= 0 else -1
    elif isinstance(value, str):
        length = duration_ns(value)
    else:
        raise ValueError(f"Unsupported type: '{go_kind(value)}'")  # noqa: TRY004 - the same
    return FOREVER_NS if length < 0 else length


def keep_alive_setting_ns(text: str) -> int:
    """The same out of `OLLAMA_KEEP_ALIVE`, where a bare number is seconds. Raises ValueError."""
    return keep_alive_ns(int(text) if re.fullmatch(r"-?\d+", text) else text)


def go_kind(value: object) -> str:
    """Go's name for the dynamic type of a decoded value."""
    names = {type(None): "<nil>", float: "float64", int: "float64", str: "string", bool: "bool"}
    return names.get(type(value), "[]interface {}" if isinstance(value, list) else "map[string]interface {}")


def stamp(at_ns: int | None = None) -> str:
    """A time as Ollama writes it: UTC, RFC 3339, nanoseconds without zeros at the end."""
    seconds, fraction = divmod(time.time_ns() if at_ns is None else at_ns, NS)
    whole = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    digits = f"{fraction:09}".rstrip("0")
    return f"{whole}.{digits}Z" if digits else f"{whole}Z"


def to_json(value: Any) -> bytes:
    """A value as Go's encoder writes it; keys of a mapping stay in their order."""
    return _written(value).encode()


def quoted(text: str) -> str:
    """A text as Go's `%q` shows it, near enough: quotes and backslashes escaped."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _written(value: Any) -> str:
    if isinstance(value, str):
        return re.sub("[<>&]", lambda found: _HTML[found[0]], json.dumps(value, ensure_ascii=False))
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_written(str(key))}:{_written(item)}" for key, item in value.items()) + "}"
    if isinstance(value, Sequence):
        return "[" + ",".join(map(_written, value)) + "]"
    return json.dumps(value)


def _number(value: float) -> str:
    if value == 0.0:
        return "-0" if math.copysign(1.0, value) < 0 else "0"
    if not _PLAIN_FROM <= abs(value) < _PLAIN_BELOW:
        return repr(value)
    digits = repr(value)
    if "e" in digits:
        digits = f"{value:.{_decimals(digits)}f}"
    return digits.removesuffix(".0")


def _decimals(digits: str) -> int:
    """How many digits after the point it takes to write a number without its exponent."""
    mantissa, _, exponent = digits.partition("e")
    return max(0, len(mantissa.partition(".")[2]) - int(exponent))
