"""A reload that moves GPUs from child to child, as far as to leave none of those that there were."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp

from tests.support.control_face import ollamactl
from tests.support.daemon import Daemon, Daemons, until
from tests.support.fake_nvml import GIB, FakeGpu, MakeDriver, fake_nvml_library, make_driver
from tests.support.orders import odd

__all__ = ["fake_nvml_library", "make_driver"]

GPUS: dict[str, Any] = {"cpu_children": 0, "sample_interval_s": 0.05}


async def _reload(daemon: Daemon, *options: str, **gpus: Any) -> str:
    daemon.configure("gpus", **gpus)
    code, out, err = await ollamactl("--socket", str(daemon.control), "reload", *options)
    assert code == 0, f"{out}{err}{daemon.explain()}"
    return out


async def _phases(daemon: Daemon) -> dict[str, str]:
    return {child["id"]: child["phase"] for child in (await daemon.status())["children"]}


async def test_a_reload_that_replaces_every_child_leaves_the_daemon_whole(
    daemons: Daemons, odd_ollama: Path, orders: Path, make_driver: MakeDriver
) -> None:
    driver = make_driver(FakeGpu(), FakeGpu())
    async with daemons.run(odd_ollama, odd(orders, gpus=GPUS), env=driver.env()) as daemon:
        await daemon.until_ready(2)
        await _reload(daemon, groups=[[0, 1]])
        await daemon.until_ready(1)
        assert await _phases(daemon) == {"gpu0+1": "ready"}
        before_s = (await daemon.child("gpu0+1"))["gpus"][0]["sample_age_s"]

        async def sampled() -> bool:
            return bool((await daemon.child("gpu0+1"))["gpus"][0]["sample_age_s"] < before_s)

        await until(sampled, daemon.explain)
        async with (
            aiohttp.ClientSession(daemon.base_url) as session,
            session.post("/api/generate", json={}) as answer,
        ):
            assert answer.headers["X-Ollamad-Child"] == "gpu0+1"


async def test_a_child_that_a_reload_adds_does_not_run_on_a_gpu_in_quarantine(
    daemons: Daemons, odd_ollama: Path, orders: Path, make_driver: MakeDriver
) -> None:
    driver = make_driver(FakeGpu(), FakeGpu(), FakeGpu())
    async with daemons.run(odd_ollama, odd(orders, gpus=GPUS), env=driver.env()) as daemon:
        await daemon.until_ready(3)
        driver.xid(1, 79)
        await until(lambda: daemon.said("gpu quarantined"), daemon.explain)
        await _reload(daemon, groups=[[1, 2]])
        wide = await daemon.child("gpu1+2")
        assert (wide["phase"], wide["life"]) == ("stopped", 0)
        assert "GPU 1" in wide["quarantine"]
        assert (await daemon.child("gpu0"))["life"] == 1


async def test_a_rolling_restart_passes_over_a_child_in_quarantine(
    daemons: Daemons, odd_ollama: Path, orders: Path, make_driver: MakeDriver
) -> None:
    driver = make_driver(FakeGpu(), FakeGpu(), FakeGpu())
    async with daemons.run(odd_ollama, odd(orders, gpus=GPUS), env=driver.env()) as daemon:
        await daemon.until_ready(3)
        driver.xid(0, 79)

        async def barred() -> bool:
            return bool((await daemon.child("gpu0"))["phase"] == "stopped")

        await until(barred, daemon.explain)
        code, out, err = await ollamactl("--socket", str(daemon.control), "restart", "--rolling")
        assert (code, "in quarantine" in out) == (0, True), out + err
        assert [child["life"] for child in (await daemon.status())["children"]] == [1, 2, 2]


async def test_a_stop_in_the_middle_of_a_reload_is_a_clean_one(
    daemons: Daemons, odd_ollama: Path, orders: Path, make_driver: MakeDriver
) -> None:
    driver = make_driver(FakeGpu(), FakeGpu())
    config = odd(orders, gpus=GPUS, proxy={"shutdown_grace_s": 0.2})
    async with daemons.run(odd_ollama, config, env=driver.env()) as daemon:
        await daemon.until_ready(2)
        (orders / "all.wait").touch()
        async with aiohttp.ClientSession(daemon.base_url) as session, asyncio.TaskGroup() as tasks:
            asked = tasks.create_task(_status(session))
            await until(lambda: _in_flight(daemon), daemon.explain)
            await _reload(daemon, "--no-wait", groups=[[0, 1]])
            await until(lambda: daemon.said("child drains"), daemon.explain)
            await daemon.stop()
            assert await asked in {502, 503}
        assert not daemon.said("children abandoned")
        assert not daemon.said("operation failed")
        assert "gpu0+1" not in {said["child"] for said in daemon.said("child started")}


async def _status(session: aiohttp.ClientSession) -> int:
    async with session.post("/api/generate", json={"model": "m", "prompt": "p"}) as answer:
        return answer.status


async def _in_flight(daemon: Daemon) -> bool:
    return bool((await daemon.status())["in_flight"])


async def test_a_gpu_whose_child_a_reload_added_is_looked_after_as_those_of_the_start_are(
    daemons: Daemons, odd_ollama: Path, orders: Path, make_driver: MakeDriver
) -> None:
    driver = make_driver(FakeGpu(), FakeGpu())
    gpus = {**GPUS, "exclude": [1], "rediscover_interval_s": 0.2}
    async with daemons.run(odd_ollama, odd(orders, gpus=gpus), env=driver.env()) as daemon:
        await daemon.until_ready(1)
        await _reload(daemon, exclude=[])
        await daemon.until_ready(2)
        driver.vanish(1)
        await until(lambda: [said for said in daemon.said("gpu event") if said["kind"] == "gone"], daemon.explain)
        driver.set_memory(0, used=GIB)

        async def sampled() -> bool:  # each GPU is looked at by itself, a few times a second
            here, there = [child["gpus"][0] for child in (await daemon.status())["children"]]
            return here["memory_used_bytes"] == GIB and there["error"] is not None

        await until(sampled, daemon.explain)
        assert daemon.said("gpu answers again") == []
