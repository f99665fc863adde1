"""What was wrong with bytes that are no request, without them: they may hold a key, or what a terminal obeys. Pure."""

from __future__ import annotations

import re
from typing import Final

_QUOTED: Final = re.compile(r"""\s*:?\s*(?<!\w)b?(['"]).*""", re.DOTALL)
TOLD_MAX: Final = 200


def what_was_wrong(reason: str) -> str:
    """Aiohttp's reason up to where it begins to quote."""
    told = " ".join(_QUOTED.sub("", reason).split()).removeprefix("400, message:").strip(" :")
    return told[:TOLD_MAX] or "the request could not be read"
