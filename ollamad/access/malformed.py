"""What was wrong with bytes that are no request, without them: they may hold a key, or what a terminal obeys. Pure."""

from __future__ import annotations

import re
from typing import Final

_QUOTED: Final = re.compile(r"""\s*:?\s*(?<!\w)b?(['"]).*""", re.DOTALL)
_OWN_WORD: Final = re.compile(r"^(Missing|Duplicate) '([A-Za-z-]+)' header")
"""Where aiohttp quotes itself: the name of a field that there must be one of."""
TOLD_MAX: Final = 200


def what_was_wrong(reason: str) -> str:
    """Aiohttp's reason up to where it begins to quote. One without a space is all quote: the target of the request."""
    said = reason.removeprefix("400, message:").strip()
    told = _QUOTED.sub("", _OWN_WORD.sub(r"\1 \2 header", said))
    return " ".join(told.split()).strip(" :")[:TOLD_MAX] if " " in told else "the request could not be read"
