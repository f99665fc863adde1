"""`ollamad demo` as a person has it: one command, every fault by hand, what /status shows, and Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from tests.support.daemon import alive, until
from tests.support.tls import make_pair

Document = dict[str, Any]
PORTS = {"proxy.listen": "127.0.0.1:0", "status.listen": "127.0.0.1:0", "ollama.base_port": "23500"}


@dataclass
class Demo:
    """A demo that runs."""

    process: asyncio.subprocess.Process
    socket: Path
    log: Path

    async def ask(self, method: str, path: str) -> tuple[int, Document]:
        connector = aiohttp.UnixConnector(str(self.socket))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.request(method, f"http://ollamad{path}") as answer,
        ):
            return answer.status, await answer.json()

    async def do(self, act: str, target: str = "", value: str = "") -> str:
        status, said = await self.ask("POST", f"/v1/demo?act={act}&target={target}&value={value}")
        assert status == 200, said
        return str(said["done"])

    async def child(self, name: str) -> Document:
        _, found = await self.ask("GET", f"/v1/children/{name}")
        return found

    async def until(self, name: str, condition: Callable[[Document], object]) -> None:
        """Until this holds of a child."""

        async def holds() -> object:
            return condition(await self.child(name))

        await until(holds, self.log.read_text)

    async def until_well(self) -> None:
        async def holds() -> bool:
            _, found = await self.ask("GET", "/v1/status")
            return all(child["routable"] and not child["quarantine"] for child in found["children"])

        await until(holds, self.log.read_text)

    def everything(self) -> list[psutil.Process]:
        me = psutil.Process(self.process.pid)
        return [me, *me.children(recursive=True)]


@asynccontextmanager
async def demo(folder: Path, *more: str) -> AsyncIterator[Demo]:
    socket, log = folder / "control.sock", folder / "log"
    flags = [f"--set={key}={value}" for key, value in PORTS.items()]
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "ollamad", "demo", f"--set=control.socket={socket}", *flags, *more),
            env={"PATH": os.environ["PATH"], "HOME": str(folder), "TMPDIR": str(folder)},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    running = Demo(process, socket, log)
    left: list[psutil.Process] = []
    try:
        await until(lambda: b"Ctrl-C stops it" in log.read_bytes() or process.returncode is not None, log.read_text)
        yield running
        left = running.everything()
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 0, log.read_text()
        await until(lambda: not alive(left))
        assert not [name for name in os.listdir(folder) if name.startswith("ollamad-demo")], "its folder is gone"  # noqa: PTH208 - asynchronous code may not use pathlib so
    finally:
        for one in alive(left):
            one.kill()
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def silent_s(stream: Document) -> float:
    return float(stream["age_s"] if stream["silent_s"] is None else stream["silent_s"])


def has_lost_its_gpu(child: Document) -> bool:
    """A sample or the driver's event, whichever comes first, is why it is in quarantine."""
    return any(reason in (child["quarantine"] or "") for reason in ("GPU is lost", "Xid 79"))


def has_failed(child: Document) -> bool:
    return bool(child["phase"] == "failed")


async def test_with_certificates_it_says_https_and_its_own_traffic_speaks_it(tmp_path: Path) -> None:
    pair = make_pair(tmp_path, "one")
    files = {"certificate": pair.certificate, "key": pair.key}
    tls = [f"--set={table}.tls_{name}={file}" for table in ("proxy", "status") for name, file in files.items()]
    async with demo(tmp_path, "--traffic=20", *tls) as running:
        told = running.log.read_text()
        assert "simulated GPUs on https://127.0.0.1:" in told
        assert "See it:        https://127.0.0.1:" in told

        async def traffic_is_served() -> bool:
            _, found = await running.ask("GET", "/v1/demo")
            return "served" in found["last_requests"]

        await until(traffic_is_served, running.log.read_text)


async def test_it_serves_proves_its_pinning_and_sends_itself_traffic(tmp_path: Path) -> None:
    async with demo(tmp_path, "--traffic=20") as running:
        await running.until_well()

        async def is_served() -> bool:
            _, found = await running.ask("GET", "/v1/demo")
            return bool(found["last_requests"].get("served", 0) > 20)

        await until(is_served)
        _, status = await running.ask("GET", "/v1/status")
        assert [child["id"] for child in status["children"]] == ["gpu0", "gpu1", "gpu2", "gpu3"]
        proofs = {child["pinning"]["proof"] for child in status["children"] if child["models"] and child["pinning"]}
        assert "proven" in proofs
        assert any(gpu["utilization_percent"] for child in status["children"] for gpu in child["gpus"])


async def test_every_fault_shows_and_heals(tmp_path: Path) -> None:
    async with demo(tmp_path, "--traffic=10") as running:
        await running.until_well()
        await running.until("gpu2", lambda child: child["streams"])

        await running.do("hang", "gpu2")
        await running.until("gpu2", lambda child: any(silent_s(stream) > 1 for stream in child["streams"]))

        await running.do("fill", "gpu0", "20GiB")
        await running.until("gpu0", lambda child: child["gpus"][0]["memory_foreign_bytes"] == 20 * 1024**3)

        life = (await running.child("gpu1"))["life"]
        assert "SIGKILL" in await running.do("kill", "gpu1")
        await running.until("gpu1", lambda child: child["life"] > life and child["phase"] == "ready")
        assert (await running.child("gpu1"))["deaths"] >= 1

        await running.do("lose", "3")
        await running.until("gpu3", has_lost_its_gpu)
        await running.until("gpu3", lambda child: child["gpus"][0]["error"] == "GPU is lost")
        await until(lambda: "Xid 79: it has fallen off the bus" in running.log.read_text(), running.log.read_text)

        await running.do("crash", "gpu1")
        await running.until("gpu1", has_failed)

        _, broken = await running.ask("GET", "/v1/demo")
        assert {(fault["target"], fault["act"]) for fault in broken["faults"]} == {
            ("gpu0", "fill"),
            ("gpu3", "lose"),
            ("gpu1", "crash"),
        }
        await running.do("heal")
        await running.ask("POST", "/v1/children/gpu1/reset")
        await running.until_well()
        await running.until("gpu0", lambda child: child["gpus"][0]["memory_foreign_bytes"] == 0)
        assert (await running.ask("GET", "/v1/demo"))[1]["faults"] == []


async def test_a_frozen_child_a_slow_one_and_a_driver_that_hangs(tmp_path: Path) -> None:
    async with demo(tmp_path, "--traffic=10") as running:
        await running.until_well()
        await running.until("gpu0", lambda child: child["streams"])
        await running.do("freeze", "gpu0")
        await running.until("gpu0", lambda child: child["deaths"] or not child["routable"])
        await running.do("slow", "gpu1", "3")
        await running.do("stall", "gpu2")
        await running.until("gpu2", lambda child: "driver has not answered" in (child["quarantine"] or ""))
        await running.do("heal")
        await running.until_well()
        await running.do("traffic", "0")
        assert (await running.ask("GET", "/v1/demo"))[1]["requests_per_s"] == 0


async def test_what_can_not_be_meant_is_refused_with_what_is_there(tmp_path: Path) -> None:
    async with demo(tmp_path, "--traffic=0") as running:
        await running.until_well()
        for query, status, said in (
            ("act=kil", 400, 'did you mean "kill"'),
            ("act=kill&target=gpu9", 404, "there are gpu0, gpu1, gpu2, gpu3"),
            ("act=fill&target=gpu0&value=90GiB", 400, "20GiB"),
            ("act=slow&target=gpu0&value=0", 400, "how many times"),
            ("act=traffic&target=x", 400, "30/min"),
            ("target=gpu0", 400, "act is needed"),
        ):
            found, answer = await running.ask("POST", f"/v1/demo?{query}")
            assert (found, said in answer["error"]) == (status, True), answer
