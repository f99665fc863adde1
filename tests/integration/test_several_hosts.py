"""Two hosts with ollamad behind a real HAProxy with the configuration that deploy/ has, in network namespaces."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from ollamad.demo.parts import default_cache
from ollamad.sim.models import write_model
from ollamad.sim.store import Store
from tests.support.daemon import Daemon, Daemons, until
from tests.support.debian import debian_program, library_path
from tests.support.hosts import Host
from tests.support.simulated import SHAPE

CONFIG: Final = Path(__file__).parents[2] / "deploy" / "haproxy" / "haproxy.cfg"
LIBRARIES: Final = ("liblua5.3-0", "libopentracing-c-wrapper0", "libopentracing1")
MODELS: Final = [f"model-{number}:latest" for number in range(8)]
LISTENS: Final = {
    "proxy": {"listen": "0.0.0.0:11434", "allow_unauthenticated": True, "shutdown_notice_s": 5.0},
    "status": {"listen": "0.0.0.0:11480", "allow_unauthenticated": True, "agent_listen": "0.0.0.0:11481"},
}


@dataclass(frozen=True, slots=True)
class Fleet:
    """The load balancer's host, and what runs on the two behind it."""

    front: Host
    hosts: tuple[Host, Host]
    daemons: tuple[Daemon, Daemon]

    async def asked(self, model: str, tokens: int = 3, prompt: str = "x") -> tuple[int, str]:
        """One request through HAProxy, as a client of its host: the status, and the answer."""
        body = {"model": model, "prompt": prompt, "stream": False, "options": {"num_predict": tokens}}
        return await asyncio.to_thread(self.front.do, lambda: _post(self.front.address, json.dumps(body)))

    def served(self) -> list[Counter[str]]:
        """How many requests for each model each host has served."""
        return [Counter(event["model"] for event in one.said("request") if "child" in event) for one in self.daemons]

    async def weight(self, host: int) -> bytes:
        """What a host's agent says."""
        return await asyncio.to_thread(self.front.do, lambda: _agent(self.hosts[host].address))


def _post(address: str, body: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(address, 11434, timeout=60)
    try:
        connection.request("POST", "/api/generate", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def _agent(address: str) -> bytes:
    with socket.create_connection((address, 11481), timeout=10) as agent:
        return agent.makefile("rb").read()


@asynccontextmanager
async def _haproxy(front: Host, folder: Path) -> AsyncIterator[None]:
    """The real one, on the load balancer's host."""
    cache = default_cache()
    program = await asyncio.to_thread(debian_program, "haproxy", "usr/sbin/haproxy", cache, LIBRARIES)
    with (folder / "haproxy.log").open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *front.command(program, "-db", "-f", CONFIG),
            env={"LD_LIBRARY_PATH": library_path(cache, LIBRARIES)},
            stdout=output,
            stderr=output,
        )
    try:
        yield
        assert process.returncode is None, (folder / "haproxy.log").read_text()
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.fixture
async def fleet(hosts: list[Host], daemons: Daemons, sim_ollama: Path, tmp_path: Path) -> AsyncIterator[Fleet]:
    """Both hosts ready, and seen by the load balancer to be so."""
    store = Store(tmp_path / "several")
    for model in MODELS:
        write_model(store, model, SHAPE)
    front, first, second = hosts
    env = {"SIM_DECODE_FIXED_S": "0.02"}
    tables: dict[str, dict[str, Any]] = {**LISTENS, "ollama": {"num_parallel": 4, "env": env}}
    async with (
        daemons.run(sim_ollama, tables, store=store.folder, through=first.command()) as one,
        daemons.run(sim_ollama, tables, store=store.folder, through=second.command()) as other,
        _haproxy(front, tmp_path),
    ):
        running = Fleet(front, (first, second), (one, other))

        async def all_serve() -> bool:
            if b"100%" not in await running.weight(0) or b"100%" not in await running.weight(1):
                return False
            return (await running.asked(MODELS[0]))[0] == 200

        await until(all_serve, one.explain)
        yield running
        for daemon in running.daemons:
            if daemon.process.returncode is None:
                daemon.process.terminate()  # one more signal, which comes soon, and nobody waits for the notice to pass


async def test_a_model_stays_on_one_host_until_that_one_has_more_than_its_share(fleet: Fleet) -> None:
    for model in MODELS * 3:
        assert (await fleet.asked(model, prompt="é " * 20_000))[0] == 200  # its name is seen although this is long
    homes = [{model for model in MODELS if count[model]} for count in fleet.served()]
    assert homes[0] | homes[1] == set(MODELS)
    assert not homes[0] & homes[1]
    assert all(homes), "eight models on two hosts: luck that one in a hundred rings would have"
    answers = await asyncio.gather(*(fleet.asked(MODELS[0], tokens=20) for _ in range(16)))
    assert [status for status, _ in answers] == [200] * 16
    assert all(count[MODELS[0]] for count in fleet.served())


async def test_a_host_that_stops_ends_what_it_has_and_gets_nothing_more(fleet: Fleet) -> None:
    async with asyncio.TaskGroup() as tasks:
        long = [tasks.create_task(fleet.asked(model, tokens=100)) for model in MODELS]
        await until(lambda: _busy(fleet.daemons[0]) and _busy(fleet.daemons[1]), fleet.daemons[0].explain)
        fleet.daemons[0].process.terminate()
        await until(lambda: fleet.daemons[0].said("stopping"), fleet.daemons[0].explain)
        short = [tasks.create_task(fleet.asked(model)) for model in MODELS * 2]
    assert [task.result()[0] for task in long + short] == [200] * len(long + short)
    await fleet.daemons[0].process.wait()
    before = fleet.served()[0]
    for model in MODELS:
        assert (await fleet.asked(model))[0] == 200
    assert fleet.served()[0] == before


async def test_a_host_that_is_killed_costs_only_what_it_had_begun(fleet: Fleet) -> None:
    os.killpg(fleet.daemons[0].process.pid, signal.SIGKILL)
    answers = [await fleet.asked(model) for model in MODELS * 2]
    assert [status for status, _ in answers] == [200] * len(answers)


def _busy(daemon: Daemon) -> bool:
    """Whether it has begun to serve something that is not over."""
    return len(daemon.said("routed")) > len([event for event in daemon.said("request") if "child" in event])
