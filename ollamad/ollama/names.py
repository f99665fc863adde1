"""Model names as Ollama resolves them: `llama3.2`, `library/llama3.2:latest` and `LLAMA3.2` are one model."""

from __future__ import annotations

from typing import Final

DEFAULT_PREFIXES: Final = ("registry.ollama.ai/library/", "registry.ollama.ai/", "library/")
DEFAULT_TAG: Final = "latest"


def canonical(name: str) -> str:
    """The form in which two names of one model are equal: no default registry or namespace, a tag, lower case.

    Ollama matches existing names without regard to case (0.33, server/routes.go:1222). What is no valid name comes
    out as some text that equals no model's; judging it is the child's affair.
    """
    text = name.strip().lower().removeprefix("https://").removeprefix("http://")
    for prefix in DEFAULT_PREFIXES:
        if text.startswith(prefix):
            text = text.removeprefix(prefix)
            break
    path, slash, last = text.rpartition("/")
    return text if ":" in last else f"{path}{slash}{last}:{DEFAULT_TAG}"
