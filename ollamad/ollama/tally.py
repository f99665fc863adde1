"""The counts that Ollama gives at the end of a response, read from its last bytes.

Natively they are fields of the last record, durations in nanoseconds; under `/v1/` they are in `usage`, which a stream
has only where the client asked for it. Nothing is decoded: a record may be megabytes long, and only its end is at
hand. A text can't look like a field: in JSON its quotes have a backslash before them.
"""

from __future__ import annotations

import re
from typing import Final

from ollamad.routing.knowledge import Tally

_FIELD: Final = re.compile(
    rb'(?<!\\)"(load_duration|[a-z_]*(?:count|tokens)|prompt_eval_duration|eval_duration)":\s*(\d{1,18})'
)
_S_PER_NS: Final = 1e-9


def tally_of(tail: bytes) -> Tally:
    """What the end of a response says; None for each count that it does not have."""
    found = {name: int(value) for name, value in _FIELD.findall(tail)}

    def first(*names: bytes) -> int | None:
        return next((found[name] for name in names if name in found), None)

    return Tally(
        load_s=_seconds(first(b"load_duration")),
        prompt_tokens=first(b"prompt_eval_count", b"prompt_tokens", b"input_tokens"),
        prompt_s=_seconds(first(b"prompt_eval_duration")),
        output_tokens=first(b"eval_count", b"completion_tokens", b"output_tokens"),
        output_s=_seconds(first(b"eval_duration")),
    )


def _seconds(nanoseconds: int | None) -> float | None:
    return None if nanoseconds is None else nanoseconds * _S_PER_NS
