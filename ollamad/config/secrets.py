"""What is not shown of a configuration: values whose names say that they are secrets, and passwords in addresses."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

HIDDEN: Final = "(hidden)"
_SECRET: Final = re.compile(r"key|token|secret|passw|credential|auth", re.IGNORECASE)
_PASSWORD: Final = re.compile(r"(?<=://)[^/@\s]*@")
LENGTH_MIN: Final = 4
"""A shorter secret is none, and hiding it would tear holes into every other word."""


def is_secret(name: str) -> bool:
    """Whether a variable of this name holds what nobody should see, such as OLLAMA_API_KEY or HF_TOKEN."""
    return _SECRET.search(name) is not None


def secrets_in(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The texts in an environment that nobody should see, wherever they turn up; the longest first."""
    whole = [value for name, value in environment.items() if is_secret(name)]
    passwords = [found.removesuffix("@") for value in environment.values() for found in _PASSWORD.findall(value)]
    found = {text for text in (*whole, *passwords) if len(text) >= LENGTH_MIN}
    return tuple(sorted(found, key=lambda text: (-len(text), text)))


def hidden_in(text: str, secrets: Iterable[str]) -> str:
    """A text without these."""
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return text


def shown(name: str, value: Any) -> Any:
    """A value of this name as it may be shown, tables entry by entry."""
    if isinstance(value, dict):
        return {key: shown(str(key), entry) for key, entry in value.items()}
    if is_secret(name) and value != "":
        return HIDDEN
    return _PASSWORD.sub(f"{HIDDEN}@", value) if isinstance(value, str) else value
