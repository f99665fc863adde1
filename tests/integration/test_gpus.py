"""The daemon on GPUs: a fake NVIDIA driver under the real binding, and real Ollama children pinned to what it shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from tests.support.daemon import Daemon, Daemons, until
from tests.support.fake_nvml import (
    GIB,
    Call,
    Code,
    DriverCall,
    FakeGpu,
    MakeDriver,
    fake_nvml_library,
    fake_uuid,
    make_driver,
)
from tests.support.real_ollama import RECITE

__all__ = ["fake_nvml_library", "make_driver"]

GPUS: dict[str, Any] = {"cpu_children": "auto", "sample_interval_s": 0.05}


async def _gpu(daemon: Daemon, child: str) -> dict[str, Any]:
    gpu: dict[str, Any] = (await daemon.child(child))["gpus"][0]
    return gpu


async def test_each_gpu_gets_a_child_that_is_pinned_by_uuid_and_answers(
    daemons: Daemons, ollama_binary: Path, model_store: Path, make_driver: MakeDriver
) -> None:
    driver = make_driver(FakeGpu(), FakeGpu())
    async with daemons.run(ollama_binary, {"gpus": GPUS}, store=model_store, env=driver.env()) as daemon:
        await daemon.until_ready(2)
        children = (await daemon.status())["children"]
        assert [child["id"] for child in children] == ["gpu0", "gpu1"]
        pinned = [psutil.Process(child["pid"]).environ() for child in children]
        assert [env["CUDA_VISIBLE_DEVICES"] for env in pinned] == [fake_uuid(0), fake_uuid(1)]
        assert {(env["OLLAMA_VULKAN"], env["OLLAMA_CONTEXT_LENGTH"]) for env in pinned} == {("0", "32768")}
        async with aiohttp.ClientSession(daemon.base_url) as session:
            request = {"model": RECITE, "prompt": "go", "options": {"num_predict": 2}}
            async with session.post("/api/generate", json=request) as answer:
                assert answer.headers["X-Ollamad-Child"] in {"gpu0", "gpu1"}


async def test_groups_exclusion_and_cpu_children_shape_the_fleet(
    daemons: Daemons, odd_ollama: Path, make_driver: MakeDriver, tmp_path: Path
) -> None:
    driver = make_driver(*(FakeGpu() for _ in range(4)), FakeGpu(name="NVIDIA GeForce GT 1030", total_bytes=2 * GIB))
    (tmp_path / "orders").mkdir()
    config = {
        "gpus": {**GPUS, "groups": [[2, fake_uuid(3)]], "exclude": ["*GT 1030"], "cpu_children": 1},
        "ollama": {"env": {"ODD_ORDERS": str(tmp_path / "orders")}},
    }
    async with daemons.run(odd_ollama, config, env=driver.env()) as daemon:
        await daemon.until_ready(4)
        children = (await daemon.status())["children"]
        assert [child["id"] for child in children] == ["gpu0", "gpu1", "gpu2+3", "cpu0"]
        devices = [psutil.Process(child["pid"]).environ()["CUDA_VISIBLE_DEVICES"] for child in children]
        assert devices[2:] == [f"{fake_uuid(2)},{fake_uuid(3)}", "-1"]


async def test_memory_and_utilization_are_sampled_live_and_one_missing_reading_costs_no_other(
    daemons: Daemons, ollama_binary: Path, make_driver: MakeDriver
) -> None:
    driver = make_driver(FakeGpu(used_bytes=GIB), FakeGpu())
    driver.set_fault(0, Call.TEMPERATURE, Code.NOT_SUPPORTED)
    async with daemons.run(ollama_binary, {"gpus": GPUS}, env=driver.env()) as daemon:

        async def used(expected: int) -> bool:
            return bool((await _gpu(daemon, "gpu0"))["memory_used_bytes"] == expected)

        await until(lambda: used(GIB), daemon.explain)
        driver.set_memory(0, used=3 * GIB)
        driver.set_utilization(0, 77)
        await until(lambda: used(3 * GIB), daemon.explain)
        gpu = await _gpu(daemon, "gpu0")
        assert (gpu["utilization_percent"], gpu["temperature_c"], gpu["error"]) == (77, None, None)
        assert (gpu["name"], gpu["memory_total_bytes"]) == ("NVIDIA H100 80GB HBM3", 80 * GIB)


async def test_a_lost_gpu_and_a_driver_that_hangs_are_told_once_and_the_daemon_goes_on(
    daemons: Daemons, ollama_binary: Path, make_driver: MakeDriver
) -> None:
    driver = make_driver(FakeGpu(), FakeGpu())
    config = {"gpus": {**GPUS, "call_timeout_s": 2.0}}  # not what a busy machine takes for any other call
    async with daemons.run(ollama_binary, config, env=driver.env()) as daemon:
        await daemon.until_ready(2)

        async def error(expected: str | None) -> bool:
            found = (await _gpu(daemon, "gpu1"))["error"]
            return found is None if expected is None else expected in str(found)

        driver.set_lost(1)
        await until(lambda: error("lost"), daemon.explain)
        assert (await _gpu(daemon, "gpu0"))["error"] is None
        driver.set_lost(1, lost=False)
        await until(lambda: error(None), daemon.explain)
        driver.hang(0, Call.MEMORY)
        await until(lambda: error("has not answered"), daemon.explain)
        age_s = (await _gpu(daemon, "gpu0"))["sample_age_s"]
        assert age_s > 0
        async with aiohttp.ClientSession(daemon.base_url) as session, session.get("/api/version") as answer:
            assert answer.status == 200
        driver.clear()
        await until(lambda: error(None), daemon.explain)
        assert len(daemon.said("gpu does not answer")) == 3, "the lost one, then both while the driver hung"


async def test_a_daemon_stops_while_its_driver_hangs(
    daemons: Daemons, ollama_binary: Path, make_driver: MakeDriver
) -> None:
    driver = make_driver(FakeGpu())
    config = {"gpus": {**GPUS, "call_timeout_s": 0.2}}
    async with daemons.run(ollama_binary, config, env=driver.env()) as daemon:
        await daemon.until_ready(1)
        driver.hang(0, Call.MEMORY)
        await until(lambda: daemon.said("gpu does not answer"), daemon.explain)
        await daemon.stop()


async def test_an_xid_quarantines_its_gpu_and_the_daemon_goes_on_sampling_and_answering(
    daemons: Daemons, ollama_binary: Path, make_driver: MakeDriver
) -> None:
    driver = make_driver(FakeGpu(), FakeGpu())
    async with daemons.run(ollama_binary, {"gpus": GPUS}, env=driver.env()) as daemon:
        await daemon.until_ready(2)
        driver.xid(1, 13)
        driver.xid(0, 79)
        await until(lambda: daemon.said("gpu quarantined"), daemon.explain)
        assert [said["gpu"] for said in daemon.said("gpu quarantined")] == [fake_uuid(0)]
        assert [said["xid"] for said in daemon.said("gpu event")] == [13, 79]
        driver.set_memory(0, used=GIB)
        driver.set_memory(1, used=GIB)

        async def sampled() -> bool:
            found = [(await _gpu(daemon, child))["memory_used_bytes"] for child in ("gpu0", "gpu1")]
            return found == [GIB, GIB]

        await until(sampled, daemon.explain)
        async with aiohttp.ClientSession(daemon.base_url) as session, session.get("/api/version") as answer:
            assert answer.status == 200


@pytest.mark.parametrize("fault", [Code.DRIVER_NOT_LOADED, Code.LIB_RM_VERSION_MISMATCH, Code.HANG])
async def test_a_driver_that_errs_at_start_is_said_once_and_the_cpu_serves(
    daemons: Daemons, ollama_binary: Path, make_driver: MakeDriver, fault: Code
) -> None:
    driver = make_driver(FakeGpu())
    driver.set_driver_fault(DriverCall.INIT, fault)
    config = {"gpus": {**GPUS, "call_timeout_s": 0.2}}
    async with daemons.run(ollama_binary, config, env=driver.env()) as daemon:
        await daemon.until_ready(1)
        assert [child["id"] for child in (await daemon.status())["children"]] == ["cpu0"]
        (said,) = daemon.said("no gpu, children run on the cpu")
        assert said["reason"]


async def test_a_gpu_that_was_asked_for_and_is_not_there_is_told_and_the_others_serve(
    daemons: Daemons, ollama_binary: Path, make_driver: MakeDriver
) -> None:
    driver = make_driver(FakeGpu())
    config = {"gpus": {**GPUS, "include": [0, 5]}}
    async with daemons.run(ollama_binary, config, env=driver.env()) as daemon:
        await daemon.until_ready(1)
        assert [child["id"] for child in (await daemon.status())["children"]] == ["gpu0"]
        assert "gpus.include[1] = 5 names no GPU" in daemon.said("gpu left out")[0]["reason"]
