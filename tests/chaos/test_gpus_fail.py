"""GPUs that are lost, ail, hang or appear, under the daemon: a fake driver below the real binding, children above."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any, Final

import aiohttp

from tests.support.daemon import Daemon, Daemons, send_signal, until
from tests.support.fake_nvml import (
    GIB,
    Call,
    FakeGpu,
    FakeProcess,
    MakeDriver,
    fake_nvml_library,
    make_driver,
)
from tests.support.orders import odd
from tests.support.real_ollama import RECITE

__all__ = ["fake_nvml_library", "make_driver"]

GPUS: Final[dict[str, Any]] = {
    "cpu_children": "auto",
    "sample_interval_s": 0.05,
    "call_timeout_s": 0.5,
    "rediscover_interval_s": 0.1,
    "unanswered_max_s": 0.2,
    "recover_after_s": 0.2,
    "recover_max_s": 0.2,
}


async def _is(daemon: Daemon, child: str, **facts: object) -> bool:
    found = await daemon.child(child)
    return all(found[key] == value for key, value in facts.items())


async def _is_known_dead(daemon: Daemon) -> bool:
    return not (await daemon.child("gpu0"))["routable"]


async def _foreign_is(daemon: Daemon, size: int) -> bool:
    return bool((await daemon.child("gpu0"))["gpus"][0]["memory_foreign_bytes"] == size)


async def test_a_lost_gpu_stops_its_child_the_other_serves_and_it_comes_back_by_itself(
    daemons: Daemons, odd_ollama: Path, orders: Path, make_driver: MakeDriver
) -> None:
    driver = make_driver(FakeGpu(), FakeGpu())
    async with daemons.run(odd_ollama, odd(orders, gpus=GPUS), env=driver.env()) as daemon:
        await daemon.until_ready(2)
        driver.set_lost(0)
        await until(lambda: _is(daemon, "gpu0", phase="stopped", want="up"), daemon.explain)
        child = await daemon.child("gpu0")
        assert child["quarantine"].startswith("GPU 0: ")
        assert (child["pid"], child["deaths"]) == (None, 0)
        async with aiohttp.ClientSession(daemon.base_url) as session:
            for _ in range(4):
                async with session.post("/api/generate", json={"model": "m"}) as answer:
                    assert (answer.status, answer.headers["X-Ollamad-Child"]) == (200, "gpu1")
        driver.set_lost(0, lost=False)
        await daemon.until_ready(2)
        assert (await daemon.child("gpu0"))["life"] == 2


async def test_a_gpu_with_memory_errors_has_its_child_drained_and_its_stream_ends_well(
    daemons: Daemons, odd_ollama: Path, orders: Path, make_driver: MakeDriver
) -> None:
    (orders / "gpu0.gate").touch()
    driver = make_driver(FakeGpu())
    async with daemons.run(odd_ollama, odd(orders, gpus=GPUS), env=driver.env()) as daemon:
        await daemon.until_ready(1)
        async with (
            aiohttp.ClientSession(daemon.base_url) as session,
            session.post("/api/generate", json={"model": "m"}) as answer,
        ):
            assert b"one" in await answer.content.readany()
            driver.xid(0, 48)
            await until(lambda: _is(daemon, "gpu0", phase="draining"), daemon.explain)
            (orders / "gpu0.gate").unlink()
            assert b"two" in await answer.content.read()
        await until(lambda: _is(daemon, "gpu0", life=2, routable=True), daemon.explain)
        assert "48" in daemon.said("child in quarantine")[0]["reason"]


async def test_a_driver_call_that_never_returns_takes_its_gpu_out_and_nothing_else(
    daemons: Daemons, odd_ollama: Path, orders: Path, make_driver: MakeDriver
) -> None:
    driver = make_driver(FakeGpu(), FakeGpu())
    async with daemons.run(odd_ollama, odd(orders, gpus=GPUS), env=driver.env()) as daemon:
        await daemon.until_ready(2)
        driver.hang(0, Call.MEMORY)
        await until(lambda: _is(daemon, "gpu0", phase="stopped"), daemon.explain)
        async with aiohttp.ClientSession(daemon.base_url) as session, session.post("/api/generate", json={}) as answer:
            assert (answer.status, answer.headers["X-Ollamad-Child"]) == (200, "gpu1")
        driver.clear()
        await daemon.until_ready(2)


async def test_a_gpu_that_appears_gets_a_child(
    daemons: Daemons, odd_ollama: Path, orders: Path, make_driver: MakeDriver
) -> None:
    driver = make_driver(FakeGpu(), FakeGpu())
    driver.vanish(1)
    async with daemons.run(odd_ollama, odd(orders, gpus=GPUS), env=driver.env()) as daemon:
        await daemon.until_ready(1)
        driver.vanish(1, gone=False)
        await daemon.until_ready(2)
        assert [child["id"] for child in (await daemon.status())["children"]] == ["gpu0", "gpu1"]


async def test_a_dead_child_s_successor_waits_until_its_vram_is_free(
    daemons: Daemons, odd_ollama: Path, orders: Path, make_driver: MakeDriver
) -> None:
    driver = make_driver(FakeGpu())
    async with daemons.run(odd_ollama, odd(orders, gpus=GPUS), env=driver.env()) as daemon:
        await daemon.until_ready(1)
        pid = (await daemon.child("gpu0"))["pid"]
        driver.set_processes(0, [FakeProcess(pid, 20 * GIB), FakeProcess(1, GIB)])
        await until(lambda: _foreign_is(daemon, GIB), daemon.explain)  # so the list has been read
        (orders / "gpu0.exit").touch()  # should a successor be started too soon, it would die, too
        send_signal(pid, signal.SIGKILL)
        await until(lambda: _is_known_dead(daemon), daemon.explain)
        for _ in range(50):
            child = await daemon.child("gpu0")
            assert (child["life"], child["routable"]) == (1, False)
        (orders / "gpu0.exit").unlink()
        driver.set_processes(0, [])
        await daemon.until_ready(1)
        assert ((await daemon.child("gpu0"))["deaths"], len(daemon.said("child started"))) == (1, 2)


async def test_a_model_that_is_on_the_cpu_where_a_gpu_is_required_is_a_fault_and_ends_in_failed(
    daemons: Daemons, ollama_binary: Path, model_store: Path, make_driver: MakeDriver
) -> None:
    """The packaged Ollama knows no GPU: it serves from the CPU without a word, as real ones do whose driver fails."""
    driver = make_driver(FakeGpu())
    supervision = {"resident_interval_s": 0.05, "backoff_initial_s": 0.05, "crash_loop_deaths": 2}
    config = {
        "gpus": {**GPUS, "require_gpu": True},
        "supervision": supervision,
        "proxy": {"attempts_max": 1, "ready_wait_s": 0.5},
    }
    async with daemons.run(ollama_binary, config, store=model_store, env=driver.env()) as daemon:

        async def failed() -> bool:
            await _load(daemon)
            return await _is(daemon, "gpu0", phase="failed")

        await until(failed, daemon.explain)
        assert "gpus.require_gpu = true, but" in (await daemon.child("gpu0"))["reason"]


async def test_a_model_that_is_on_the_cpu_is_told_where_no_gpu_is_required_and_goes_on(
    daemons: Daemons, ollama_binary: Path, model_store: Path, make_driver: MakeDriver
) -> None:
    driver = make_driver(FakeGpu())
    config = {"gpus": GPUS, "supervision": {"resident_interval_s": 0.05}}
    async with daemons.run(ollama_binary, config, store=model_store, env=driver.env()) as daemon:
        await daemon.until_ready(1)
        await _load(daemon)
        await until(lambda: daemon.said("child is not where it was pinned"), daemon.explain)
        child = await daemon.child("gpu0")
        assert (child["pinning"]["proof"], child["routable"], child["deaths"]) == ("on cpu", True, 0)


async def _load(daemon: Daemon) -> None:
    async with (
        aiohttp.ClientSession(daemon.base_url) as session,
        session.post("/api/generate", json={"model": RECITE}) as answer,
    ):
        await answer.read()
