"""Several children's lists as one. Pure.

Each entry stays as its child wrote it. An answer that is not what Ollama says is passed over: it costs its child's
entries, not the list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from ollamad.ollama.names import canonical

CHILD_FIELD: Final = "child"
GPUS_FIELD: Final = "gpus"
"""The two fields that ollamad adds to Ollama's own: whose an entry of `/api/ps` is, and the UUIDs of its GPUs."""

_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)


def union(bodies: Sequence[bytes], field: str, name: str, newest_first: str | None = None) -> bytes:
    """Every entry of the lists in `field`, one of each `name`; the first body as it is, where all are the same."""
    if len(set(bodies)) == 1:
        return bodies[0]
    answers = [answer for body in bodies if (answer := _object(body)) is not None]
    found: dict[str, dict[str, Any]] = {}
    for answer in answers:
        for entry in _entries(answer, field):
            found.setdefault(canonical(str(entry.get(name))), entry)
    entries = list(found.values())
    if newest_first:
        entries.sort(key=lambda entry: _time(entry.get(newest_first)), reverse=True)
    return msgspec.json.encode({**(answers[0] if answers else {}), field: entries})


def running(bodies: Iterable[tuple[str, Sequence[str], bytes]]) -> bytes:
    """What is loaded anywhere: (child, UUIDs of its GPUs, its `/api/ps`) of each; what stays longest comes first."""
    entries = [
        {**entry, CHILD_FIELD: child, GPUS_FIELD: list(gpus)}
        for child, gpus, body in bodies
        for entry in _entries(_object(body) or {}, "models")
    ]
    entries.sort(key=lambda entry: _time(entry.get("expires_at")), reverse=True)
    return msgspec.json.encode({"models": entries})


def permitted(body: bytes, field: str, name: str, allows: Callable[[str], bool]) -> bytes:
    """A list with only the entries whose `name` is allowed."""
    answer = _object(body) or {}
    entries = [entry for entry in _entries(answer, field) if allows(str(entry.get(name)))]
    return msgspec.json.encode({**answer, field: entries})


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _entries(answer: Mapping[str, Any], field: str) -> list[dict[str, Any]]:
    entries = answer.get(field)
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def _time(text: object) -> datetime:
    """Go's RFC 3339 time, to the microsecond; long ago where there is none."""
    try:
        found = msgspec.convert(text, datetime, strict=False)
    except msgspec.ValidationError:
        return _LONG_AGO
    return found if found.tzinfo else found.replace(tzinfo=UTC)
