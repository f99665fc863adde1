"""What a process had in VRAM is remembered when its end is decided, not when it is seen."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from ollamad.fleet.bell import Bell
from ollamad.fleet.known import Known
from ollamad.fleet.life import Life
from ollamad.ollama.process import ServeProcess
from ollamad.supervision.freeing import Holding


class NothingToAsk:
    """A watch over a process that is not asked anything."""

    async def run(self) -> None:
        await asyncio.Event().wait()


class Vram:
    """Notes who lived when it was asked to remember."""

    def __init__(self) -> None:
        self.lived: list[bool] = []
        self.awaited: list[Holding | None] = []

    def hold(self, pids: frozenset[int]) -> Holding | None:
        self.lived.append(all(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in pids))
        return Holding(pids, 0.0, None, {}, was_listed=True)

    async def freed(self, held: Holding | None) -> None:
        self.awaited.append(held)


@pytest.mark.parametrize(
    ("end", "lived"),
    [
        (lambda life, _: life.terminate(), True),
        (lambda life, _: life.kill(), True),
        (lambda _, pid: os.kill(pid, signal.SIGKILL), False),
    ],
)
async def test_what_it_had_is_noted_once_and_before_it_can_be_gone(
    end: Callable[[Life, int], None], *, lived: bool
) -> None:
    process, nothing, vram = ServeProcess(["sleep", "infinity"], {}), NothingToAsk(), Vram()
    client: Any = None
    watch: Any = nothing
    life = Life("gpu0", process, client, watch, Known(Bell()), lambda _: None)
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(life.run(vram))
        await asyncio.sleep(0)
        end(life, process.pid)
        assert "killed by" in await running
    assert vram.lived == [lived]
    (held,) = vram.awaited
    assert held is not None
    assert process.pid in held.pids


async def test_what_it_died_of_is_told_and_answered_probes_are_not_kept() -> None:
    probed = '[GIN] 2026/11/24 - 13:19:14 | 200 | 5.919µs | 127.0.0.1 | GET      "/api/ps"'
    last = "ollama: error while loading shared libraries: libfoo.so"
    process = ServeProcess(["/bin/sh", "-c", f"echo '{probed}'; echo '{last}' >&2; exit 127"], {})
    client: Any = None
    watch: Any = NothingToAsk()
    kept: list[str] = []
    async with asyncio.timeout(30):
        reason = await Life("gpu0", process, client, watch, Known(Bell()), kept.append).run(Vram())
    assert reason == f"exited with status 127: {last}"
    assert kept == [last]
