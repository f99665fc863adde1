"""What is not shown of a configuration: values whose names say that they are secrets, and passwords in addresses."""

from __future__ import annotations

import re
from typing import Any, Final

HIDDEN: Final = "(hidden)"
_SECRET: Final = re.compile(r"key|token|secret|passw|credential|auth", re.IGNORECASE)
_PASSWORD: Final = re.compile(r"(?<=://)[^/@\s]*@")


def is_secret(name: str) -> bool:
    """Whether a variable of this name holds what nobody should see, such as OLLAMA_API_KEY or HF_TOKEN."""
    return _SECRET.search(name) is not None


def shown(name: str, value: Any) -> Any:
    """A value of this name as it may be shown, tables entry by entry."""
    if isinstance(value, dict):
        return {key: shown(str(key), entry) for key, entry in value.items()}
    if is_secret(name) and value != "":
        return HIDDEN
    return _PASSWORD.sub(f"{HIDDEN}@", value) if isinstance(value, str) else value
