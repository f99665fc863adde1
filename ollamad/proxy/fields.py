"""The fields of a small JSON body, as Go reads them: whatever the case of their names, the last of two wins."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any, Final

import msgspec

UNLOAD_MAX_BYTES: Final = 65_536
"""A request that is longer has a prompt; looking through 20 MB of images for a word would take 20 ms."""
_DIGEST: Final = re.compile(rb"sha256:[0-9a-fA-F]{64}")


def fields(body: bytes) -> dict[str, Any]:
    """All fields by lower-case name; none where it is no JSON object, which is the child's to refuse."""
    try:
        found = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return {name.lower(): value for name, value in found.items()}


def names_in(body: bytes, wanted: Collection[str]) -> list[str] | None:
    """The text in all of these fields, whatever the case of their names; None where a child might read another.

    That is a body that is no plain JSON object, and a field that is no text: Go takes null for "as it was before".
    """
    try:
        found = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    values = [value for name, value in found.items() if name.casefold() in wanted]
    return values if all(isinstance(value, str) for value in values) else None


def model_field(found: dict[str, Any]) -> str:
    """The model's name: `model`, in older clients `name`; empty where neither is text."""
    return text_field(found, "model") or text_field(found, "name")


def text_field(found: dict[str, Any], name: str) -> str:
    """A field that is text; empty where it is none."""
    value = found.get(name)
    return value if isinstance(value, str) else ""


def wants_stream(found: dict[str, Any]) -> bool:
    """Whether a native route answers this piece by piece: it does unless told not to."""
    return found.get("stream") is not False


def digests_in(body: bytes) -> list[str]:
    """The hex of every blob that a request names, wherever in it: `files` and `adapters`, or a Modelfile's `FROM`."""
    return list(dict.fromkeys(digest[7:].decode().lower() for digest in _DIGEST.findall(body)))


_UNITS_S: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION: Final = re.compile(r"([0-9]*\.?[0-9]+|[0-9]+\.)(ns|us|µs|ms|s|m|h)")


def only_unloads(path: str, body: bytes) -> bool:
    """Whether this is a request of `/api/generate` or `/api/chat` that does nothing but unload a model.

    As Ollama has it (0.5.4 and 0.33): no prompt and no messages, and a `keep_alive` of less than a second.
    """
    content = {"/api/generate": "prompt", "/api/chat": "messages"}.get(path)
    if content is None or len(body) > UNLOAD_MAX_BYTES or b"keep_alive" not in body.lower():
        return False
    found = fields(body)
    return not found.get(content) and _is_none(found.get("keep_alive"))


def _is_none(keep_alive: object) -> bool:
    if isinstance(keep_alive, str):
        parts = _DURATION.findall(keep_alive)
        whole = "".join(figure + unit for figure, unit in parts) == keep_alive.lstrip("+")
        return keep_alive == "0" or (bool(parts) and whole and sum(float(n) * _UNITS_S[u] for n, u in parts) < 1)
    return isinstance(keep_alive, int | float) and not isinstance(keep_alive, bool) and 0 <= keep_alive < 1
