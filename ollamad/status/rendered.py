"""A page that many may ask for: drawing it takes a fiftieth of the time at most, however many ask; its age is told."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final

SHARE: Final = 0.02
"""Of one core, that drawing a page may take: a page that took 2 ms is the same for 100 ms. So one asker after a change
sees it at once, and a thousand a second cost no more than ten."""
AGE_HEADER: Final = "X-Ollamad-Age-Ms"


class Rendered:
    """One page."""

    def __init__(self, draw: Callable[[], bytes], clock: Callable[[], float] = time.monotonic) -> None:
        self._draw = draw
        self._clock = clock
        self._body = b""
        self._began_s = 0.0
        self._stale_s = -float("inf")
        """From when on it is drawn anew."""

    def now(self) -> tuple[bytes, Mapping[str, str]]:
        """The page, and header fields that tell how old it is."""
        now_s = self._clock()
        if now_s >= self._stale_s:
            self._body, self._began_s = self._draw(), now_s
            done_s = self._clock()
            self._stale_s = done_s + (done_s - now_s) / SHARE
        return self._body, {AGE_HEADER: str(round((now_s - self._began_s) * 1000))}
