"""How `make test` deals the tests out to workers that run at the same time (pytest-xdist).

A file is never divided, so what its tests share is made once; nor is the contract suite, whose files share their
targets. What takes longest is dealt out first, so that no worker is left with it at the end.
"""

from __future__ import annotations

from typing import Final

import pytest
from xdist.scheduler import LoadScopeScheduling

TOGETHER: Final = "tests/contract/"
LONGEST_FIRST: Final = (
    TOGETHER,
    "tests/systemd/",
    "tests/integration/test_demo.py",
    "tests/chaos/",
    "tests/integration/",
)
"""The parts that run real programs; the rest is short and comes last."""


class ByFile(LoadScopeScheduling):  # type: ignore[misc]  # xdist is typed, but does not say so
    """Gives each worker file after file."""

    def _split_scope(self, nodeid: str) -> str:
        return TOGETHER if nodeid.startswith(TOGETHER) else nodeid.partition("::")[0]


def longest_first(items: list[pytest.Item]) -> None:
    """Order the parts; the order within a part stays as chance has made it, in all workers alike."""
    items.sort(key=lambda item: _place(item.nodeid))


def _place(nodeid: str) -> int:
    return next((place for place, part in enumerate(LONGEST_FIRST) if nodeid.startswith(part)), len(LONGEST_FIRST))
