"""What the simulated Ollama does beyond the contract: faults on command, runners as processes, many in one process."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from ollamad.sim.server import Simulated, fleet, simulated
from ollamad.sim.settings import GIB, Settings
from ollamad.sim.timing import Timing
from tests.support.daemon import Daemons, alive, until
from tests.support.real_ollama import free_port
from tests.support.simulated import MODEL, SHAPE

ASKED = {"model": MODEL, "prompt": "go", "options": {"num_predict": 4}}


class Asker:
    """A server and a client of it."""

    def __init__(self, server: Simulated, session: aiohttp.ClientSession) -> None:
        self.server = server
        self.session = session

    async def fault(self, fault: str, **more: object) -> None:
        async with self.session.post("/sim/fault", json={"fault": fault, **more}) as answer:
            assert answer.status == 200, await answer.text()

    async def state(self) -> dict[str, Any]:
        async with self.session.get("/sim/state") as answer:
            told: dict[str, Any] = await answer.json()
            return told

    async def generate(self) -> tuple[int, list[dict[str, Any]]]:
        async with self.session.post("/api/generate", json=ASKED) as answer:
            return answer.status, [json.loads(line) async for line in answer.content]

    async def answers(self, path: str, within_s: float = 0.2) -> bool:
        try:
            async with asyncio.timeout(within_s), self.session.get(path) as answer:
                return answer.status == 200
        except TimeoutError:
            return False


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[Asker]:
    async with simulated(settings) as server, aiohttp.ClientSession(server.base_url) as session:
        yield Asker(server, session)


@pytest.fixture
async def asker(sim_store: Path) -> AsyncIterator[Asker]:
    timing = Timing(decode_fixed_s=0.001)
    async with serving(Settings(store=sim_store, devices=("GPU-a",), timing=timing)) as ready:
        yield ready


async def test_a_runner_that_hangs_stops_streams_while_the_server_answers(asker: Asker) -> None:
    async with asker.session.post("/api/generate", json={"model": MODEL, "prompt": "go"}) as stream:
        assert await stream.content.readline()
        await asker.fault("hang")
        assert await asker.answers("/api/version")
        assert await asker.answers("/api/ps")
        assert (await asker.state())["runners"][0]["hung"]
        await asker.fault("hang", on=False)
        assert await stream.content.readline()


async def test_a_model_can_be_stuck_in_stopping(asker: Asker) -> None:
    await asker.generate()
    await asker.fault("stuck")
    async with asker.session.post("/api/generate", json={"model": MODEL, "keep_alive": 0}) as answer:
        assert (await answer.json())["done_reason"] == "unload"
    assert [runner["model"] for runner in (await asker.state())["runners"]] == [f"{MODEL}:latest"]
    await asker.fault("stuck", on=False)
    assert (await asker.state())["runners"] == []


async def test_inference_can_be_refused_and_loads_can_fail(asker: Asker) -> None:
    await asker.fault("refuse")
    assert (await asker.generate())[0] == 500
    await asker.fault("refuse", on=False)
    await asker.fault("fail-load")
    status, records = await asker.generate()
    assert (status, records[0]["error"][:28]) == (500, "llama runner process has ter")
    await asker.fault("fail-load", on=False)
    assert (await asker.generate())[0] == 200


@pytest.mark.parametrize(("fault", "path"), [("freeze-ps", "/api/ps"), ("deaf", "/api/version")])
async def test_what_answers_can_be_made_to_stop_answering(asker: Asker, fault: str, path: str) -> None:
    await asker.fault(fault)
    assert not await asker.answers(path)
    await asker.fault(fault, on=False)
    assert await asker.answers(path, within_s=5.0)


async def test_a_load_that_does_not_end_holds_up_every_load(asker: Asker) -> None:
    await asker.fault("endless-load")
    first = asker.session.post("/api/generate", json=ASKED)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(first.__aenter__())
        await until(lambda: asker.server.site.scheduler.waiting == 1)
        assert (await asker.state())["runners"] == []
        await asker.fault("endless-load", on=False)
        (await task).close()


async def test_a_fault_that_there_is_not_is_refused_with_those_there_are(asker: Asker) -> None:
    async with asker.session.post("/sim/fault", json={"fault": "nosuch"}) as answer:
        assert answer.status == 400
        assert "freeze-ps" in (await answer.json())["error"]


async def test_the_state_tells_what_a_driver_would_see(asker: Asker) -> None:
    await asker.generate()
    state = await asker.state()
    (runner,) = state["runners"]
    assert state["devices"] == ["GPU-a"]
    assert state["vram_used_bytes"] == runner["vram_bytes"] > SHAPE.size_bytes
    assert (state["loads"], runner["requests"]) == (1, 0)


async def test_who_leaves_frees_the_slot_at_once(asker: Asker) -> None:
    async with asker.session.post("/api/generate", json={"model": MODEL, "prompt": "go"}) as stream:
        await stream.content.readline()
        stream.close()

    async def free() -> bool:
        return bool((await asker.state())["runners"][0]["streams"] == 0)

    await until(free)


async def test_a_model_too_large_for_its_gpu_is_partly_on_the_cpu(sim_store: Path) -> None:
    settings = Settings(store=sim_store, devices=("GPU-a",), vram_bytes=2 * GIB)
    async with serving(settings) as asker:
        await asker.generate()
        async with asker.session.get("/api/ps") as answer:
            (model,) = (await answer.json())["models"]
    assert model["size_vram"] == 2 * GIB < model["size"]


async def test_many_servers_live_in_one_process_and_share_a_store(sim_store: Path) -> None:
    async with fleet([Settings(store=sim_store) for _ in range(8)]) as servers, aiohttp.ClientSession() as session:
        for server in servers:
            async with session.post(f"{server.base_url}/api/generate", json={**ASKED, "stream": False}) as answer:
                assert (await answer.json())["response"] == " w0 w1 w2 w3"
        assert [server.site.scheduler.counts.loads for server in servers] == [1] * 8


async def run_program(program: Path, store: Path, **environment: str) -> tuple[asyncio.subprocess.Process, str]:
    """The program, ready, in a session of its own."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(program, "serve"),
        env={
            "PATH": os.environ["PATH"],
            "OLLAMA_HOST": f"127.0.0.1:{port}",
            "OLLAMA_MODELS": str(store),
            "OLLAMA_NOPRUNE": "1",
            **environment,
        },
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    base_url = f"http://127.0.0.1:{port}"

    async def ready() -> bool:
        try:
            async with aiohttp.ClientSession() as session, session.get(base_url) as answer:
                return answer.ok
        except aiohttp.ClientError:
            return False

    await until(ready)
    return process, base_url


@pytest.mark.parametrize(("number", "left"), [(signal.SIGTERM, 0), (signal.SIGKILL, 1)])
async def test_its_runners_end_with_it_unless_it_is_killed(
    sim_ollama: Path, sim_store: Path, number: signal.Signals, left: int
) -> None:
    process, base_url = await run_program(sim_ollama, sim_store, SIM_RUNNERS="1", MARK="here")
    async with aiohttp.ClientSession(base_url) as session, session.post("/api/generate", json=ASKED) as answer:
        await answer.read()
    runners = psutil.Process(process.pid).children()
    try:
        assert len(runners) == 1
        assert runners[0].environ()["MARK"] == "here"
        assert os.getpgid(runners[0].pid) == process.pid
        process.send_signal(number)
        assert await process.wait() == (0 if number is signal.SIGTERM else -signal.SIGKILL)
        assert len(alive(runners)) == left
    finally:
        for runner in alive(runners):
            runner.kill()


async def test_it_can_be_told_to_exit(sim_ollama: Path, sim_store: Path) -> None:
    process, base_url = await run_program(sim_ollama, sim_store)
    async with aiohttp.ClientSession(base_url) as session:
        with pytest.raises(aiohttp.ClientError):
            await session.post("/sim/fault", json={"fault": "exit"})
    assert await process.wait() == 1


async def test_ollamad_runs_over_it_as_over_the_real_one(daemons: Daemons, sim_ollama: Path, sim_store: Path) -> None:
    config: dict[str, dict[str, Any]] = {"gpus": {"cpu_children": 4}, "ollama": {"env": {"SIM_RUNNERS": "1"}}}
    async with daemons.run(sim_ollama, config, store=sim_store) as daemon:
        await daemon.until_ready(4)
        async with aiohttp.ClientSession(daemon.base_url) as session:
            for _ in range(3):
                async with session.post("/api/chat", json={"model": MODEL, "messages": [], "stream": False}) as answer:
                    assert (await answer.json())["done_reason"] == "load"
        processes = daemon.all_processes()
        await daemon.stop()
        assert alive(processes) == []
