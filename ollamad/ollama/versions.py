"""Which of two Ollama versions is older."""

from __future__ import annotations

import re
from typing import Final

_FIGURES: Final = re.compile(r"\d+")


def version_key(version: str) -> tuple[tuple[int, ...], bool, str]:
    """What versions are sorted by: the figures before the first `-` or `+`; a pre-release comes before its release."""
    release = re.split(r"[-+]", version, maxsplit=1)[0]
    return tuple(int(figure) for figure in _FIGURES.findall(release)), "-" not in version, version
