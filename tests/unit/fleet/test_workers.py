"""Work that takes long: seen while it runs, stopped when its block is left, and its error the one that it raised."""

from __future__ import annotations

import asyncio

import pytest

from ollamad.errors import StoreError
from ollamad.fleet.workers import Workers


async def test_what_fails_in_the_block_is_raised_as_it_is() -> None:
    workers = Workers(1)
    with pytest.raises(StoreError, match="the disk is full"):
        async with workers.effort() as effort:
            raise StoreError("the disk is full")
    assert effort.stopped.is_set()
    assert not workers.copying
    workers.close()


async def test_a_cancelled_block_stops_its_work() -> None:
    workers = Workers(1)
    begun = asyncio.Event()

    async def work() -> None:
        async with workers.effort() as effort:
            begun.set()
            await workers.do(effort.stopped.wait)

    async with asyncio.TaskGroup() as tasks:
        working = tasks.create_task(work())
        await begun.wait()
        working.cancel()
    assert working.cancelled()
    workers.close()
