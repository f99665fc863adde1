from __future__ import annotations

import asyncio
from contextlib import suppress

import psutil
import pytest

from ollamad.fleet import keeper
from tests.support.daemon import alive, until

INSTANCE = "an instance of this test alone"


def _wardens() -> list[psutil.Process]:
    found = []
    for child in alive(psutil.Process().children()):
        with suppress(psutil.Error):  # it has died meanwhile
            found += [child] if INSTANCE in child.cmdline() else []
    return found


async def test_a_warden_that_is_killed_is_replaced_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "SHORT_LIFE_S", 0.0)
    monkeypatch.setattr(keeper, "RESTART_PAUSE_S", 3600.0)
    async with asyncio.TaskGroup() as tasks:
        keeping = tasks.create_task(keeper.keep_warden(INSTANCE))
        await until(_wardens)
        (first,) = _wardens()
        first.kill()
        await until(lambda: [warden for warden in _wardens() if warden != first])
        keeping.cancel()
    assert _wardens() == []


async def test_one_that_dies_as_soon_as_it_lives_is_not_started_over_and_over(monkeypatch: pytest.MonkeyPatch) -> None:
    lives = 0

    async def die(_instance: str) -> int:
        nonlocal lives
        lives += 1
        return 1

    monkeypatch.setattr(keeper, "_run_one", die)
    monkeypatch.setattr(keeper, "RESTART_PAUSE_S", 3600.0)
    async with asyncio.TaskGroup() as tasks:
        keeping = tasks.create_task(keeper.keep_warden(INSTANCE))
        await until(lambda: lives)
        for _ in range(100):
            await asyncio.sleep(0)
        keeping.cancel()
    assert lives == 1
