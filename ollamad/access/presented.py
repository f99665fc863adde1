"""The key that a request presents: as OpenAI's clients send it, as Anthropic's do, or as a browser's prompt. Pure."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping


def presented_key(headers: Mapping[str, str], *, basic: bool = False) -> str | None:
    """The key in `Authorization: Bearer`, else in `X-Api-Key`; None where there is none.

    With `basic` also the password of `Authorization: Basic`, whatever the user's name: all that browsers and some
    monitors can send.
    """
    scheme, _, rest = headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip() or None
    if basic and scheme.lower() == "basic":
        return _password(rest.strip())
    return headers.get("X-Api-Key", "").strip() or None


def _password(text: str) -> str | None:
    try:
        _, colon, password = base64.b64decode(text, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return None
    return password if colon else None
