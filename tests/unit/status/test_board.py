from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import pytest

from ollamad.config.schema import Status
from ollamad.routing.snapshot import Snapshot
from ollamad.status.board import Board
from ollamad.status.history import History
from tests.support.showcase import Showcase


class Counted(Showcase):
    """A showcase that knows how often it was looked at."""

    looks = 0

    def look(self) -> Snapshot:
        self.looks += 1
        return super().look()


@pytest.fixture
def show() -> Counted:
    made = Counted(gpus=2)
    made.fill()
    return made


def board(show: Showcase, viewers_max: int = 100) -> Board:
    return Board(show.look, show.tallies, Status(refresh_interval_s=0.1, history_s=10.0, viewers_max=viewers_max))


def read(event: bytes) -> tuple[str, dict[str, Any]]:
    head, _, data = event.removeprefix(b"retry: 1000\n").partition(b"\ndata: ")
    return head.decode().removeprefix("event: "), json.loads(data)


async def _next(viewer: AsyncGenerator[bytes]) -> bytes:
    return await anext(viewer)


async def test_a_viewer_is_told_the_past_then_what_is_now_then_each_tick(show: Counted) -> None:
    shown = board(show)
    async with asyncio.TaskGroup() as tasks, aclosing(shown.follow()) as viewer:
        ticking = tasks.create_task(shown.run())
        told = [read(await anext(viewer)) for _ in range(4)]
        ticking.cancel()
    assert [name for name, _ in told] == ["past", "look", "look", "look"]
    assert set(told[0][1]) == {"utilization", "points", "interval_s"}
    assert all(set(look) == {"status", "utilization", "requests", "events"} for _, look in told[1:])
    assert told[1][1]["utilization"] == {}, "it is in the past already"
    assert len(told[2][1]["utilization"]) == 2


async def test_fifty_viewers_cost_one_look_a_tick(show: Counted) -> None:
    shown = board(show)
    viewers = [shown.follow() for _ in range(50)]
    for viewer in viewers:
        await anext(viewer)
        await anext(viewer)
    async with asyncio.TaskGroup() as tasks:
        before = show.looks
        waiting = [tasks.create_task(_next(viewer)) for viewer in viewers]
        await asyncio.sleep(0)
        ticking = tasks.create_task(shown.run())
        looks = await asyncio.gather(*waiting)
        ticking.cancel()
    assert show.looks == before + 1
    assert len({id(look) for look in looks}) == 1, "the very same bytes"
    for viewer in viewers:
        await viewer.aclose()


async def test_a_place_is_free_again_when_its_viewer_leaves(show: Counted) -> None:
    shown = board(show, viewers_max=1)
    full = [shown.is_full]
    async with aclosing(shown.follow()) as viewer:
        await anext(viewer)
        full.append(shown.is_full)
    full.append(shown.is_full)
    assert full == [False, True, False]


async def test_when_it_closes_everyone_is_sent_home(show: Counted) -> None:
    shown = board(show)
    async with aclosing(shown.follow()) as viewer, asyncio.timeout(5):
        await anext(viewer)
        await anext(viewer)
        shown.close()
        assert [look async for look in viewer] == []


def test_the_history_is_bounded_and_a_gpu_that_gives_no_reading_leaves_a_gap() -> None:
    show = Showcase(gpus=16)
    history = History(history_s=10.0, interval_s=1.0)
    for _ in range(25):
        history.take(show.look())
    assert {len(points) for points in history.all().values()} == {10}
    lost = next(uuid for uuid in history.all() if uuid.startswith("GPU-00000009"))
    assert history.all()[lost] == [None] * 10
    show.gpus = 1
    history.take(show.look())
    assert len(history.all()) == 1, "a GPU that no child has any more is forgotten"
