"""A server that ends by itself in the very moment in which it is told to: its runners must not outlive it."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress

import psutil
import pytest

from ollamad.ollama.process import ServeProcess

WITH_RUNNER = ["/bin/sh", "-c", "sleep infinity & exec sleep infinity"]


def _late(pids: tuple[int, ...]) -> None:
    pytest.fail(f"{pids} outlive kill")


def _unheard(_line: str) -> None:
    """What it prints is of no interest."""


async def _runner_of(process: ServeProcess) -> psutil.Process:
    async with asyncio.timeout(30):
        while not (runners := [pid for pid in process.members() if pid != process.pid]):
            await asyncio.sleep(0.001)
    return psutil.Process(runners[0])


async def test_a_server_that_is_dead_already_when_it_is_told_to_stop_leaves_no_runner() -> None:
    process = ServeProcess(WITH_RUNNER, {})
    runner = await _runner_of(process)
    try:
        async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
            tasks.create_task(process.drain(_unheard))
            exited = tasks.create_task(process.exited())
            await asyncio.sleep(0)
            os.kill(process.pid, signal.SIGKILL)
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # noqa: ASYNC222 - it is dead, and nobody has been told
            process.terminate()
            await exited
            await process.sweep(10.0, _late)
            assert not runner.is_running() or runner.status() == psutil.STATUS_ZOMBIE
        assert process.reason() == "killed by SIGKILL"
    finally:
        with suppress(psutil.NoSuchProcess):
            runner.kill()


async def test_a_server_that_died_of_a_signal_without_a_name_is_told_of() -> None:
    process = ServeProcess(["sleep", "infinity"], {})
    nameless = signal.SIGRTMIN + 3
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(process.drain(_unheard))
        os.kill(process.pid, nameless)
        await process.exited()
        await process.sweep(10.0, _late)
    assert process.reason() == f"killed by signal {int(nameless)}"


async def test_a_server_that_is_gone_gets_no_signal_since_its_number_may_be_a_stranger_s_by_now(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    process = ServeProcess(["true"], {})
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(process.drain(_unheard))
        await process.exited()
        await process.sweep(10.0, _late)
    signals: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: signals.append((pid, number)))
    monkeypatch.setattr(os, "killpg", lambda group, number: signals.append((group, number)))
    process.terminate()
    process.kill()  # its end is waited for until its VRAM is free, and a deadline may come before
    assert signals == []
