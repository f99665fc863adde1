"""Prompts, rendered by a small part of Go's templates, and counted in the tokens of a reciting model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

BEGIN: Final = 1
SPACE: Final = 259
_BYTES_FROM: Final = 3
"""The token of byte 0; the others follow."""

_IF: Final = re.compile(
    r"\{\{-?\s*if \.(\w+)\s*-?\}\}(.*?)(?:\{\{-?\s*else\s*-?\}\}(.*?))?\{\{-?\s*end\s*-?\}\}",
    re.DOTALL,
)
_FIELD: Final = re.compile(r"\{\{-?\s*\.(\w+)\s*-?\}\}")
_RESPONSE: Final = re.compile(r"\{\{-?\s*\.Response\s*-?\}\}")


def tokens_of(text: str) -> list[int]:
    """The tokens of a text: one for the space before it, one for each byte. A real model has about a quarter of it."""
    return [SPACE, *(SPACE if byte == ord(" ") else byte + _BYTES_FROM for byte in text.encode())]


def render(template: str, messages: Iterable[Mapping[str, Any]]) -> str:
    """The prompt that a chat becomes, as Ollama does it for templates that know no messages."""
    rounds: list[dict[str, str]] = [{}]
    for message in _collated(messages):
        role = {"system": "System", "user": "Prompt", "assistant": "Response"}.get(message["role"])
        if role is None:
            continue
        if _begins_another(role, rounds[-1]):
            rounds.append({})
        rounds[-1][role] = message["content"]
    if not _RESPONSE.search(template):
        template += "{{ .Response }}"
    *done, last = rounds
    opened = _RESPONSE.split(template)[0] + "{{ .Response }}"  # what follows an answer is not written before it
    return "".join(_filled(template, values) for values in done) + _filled(opened, last)


def _begins_another(role: str, values: Mapping[str, str]) -> bool:
    if role == "System":
        return "Prompt" in values or "Response" in values
    return role == "Prompt" and "Response" in values


def _collated(messages: Iterable[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Neighbours of one role as one message."""
    collated: list[dict[str, str]] = []
    for message in messages:
        role, content = str(message.get("role", "")), str(message.get("content") or "")
        if collated and collated[-1]["role"] == role:
            collated[-1]["content"] += f"\n\n{content}"
        else:
            collated.append({"role": role, "content": content})
    return collated


def _filled(template: str, values: Mapping[str, str]) -> str:
    chosen = _IF.sub(lambda found: (found[2] if values.get(found[1]) else found[3]) or "", template)
    return _FIELD.sub(lambda found: values.get(found[1], ""), chosen)


def common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens two prompts begin with alike. Halves the doubt each time: long prompts are compared in C."""
    low, high = 0, min(len(first), len(second))
    while low < high:
        middle = (low + high + 1) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
