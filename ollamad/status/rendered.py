"""A page that many ask for, drawn at most once a tick and shared by all who ask within it; its age is told."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final

FRESH_S: Final = 0.1
"""Asked for within this, it is the same page: a thousand askers a second cost no more drawing than ten."""
AGE_HEADER: Final = "X-Ollamad-Age-Ms"


class Rendered:
    """One page."""

    def __init__(self, draw: Callable[[], bytes], clock: Callable[[], float] = time.monotonic) -> None:
        self._draw = draw
        self._clock = clock
        self._body = b""
        self._drawn_s: float | None = None

    def now(self) -> tuple[bytes, Mapping[str, str]]:
        """The page, and header fields that tell how old it is."""
        now_s = self._clock()
        if self._drawn_s is None or now_s - self._drawn_s >= FRESH_S:
            self._body, self._drawn_s = self._draw(), now_s
        return self._body, {AGE_HEADER: str(round((now_s - self._drawn_s) * 1000))}
