"""Time to first token and loads of real proxies over simulated Ollamas: nginx round robin, least_conn, and ollamad.

The same arrivals go to each in turn, in one run: nothing here compares with another day's figures. The GPUs' times are
those of `SIM_PRESET=gpu` (ollamad/sim/timing.py), made faster by `--speed`; figures are told in unscaled seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

import aiohttp

from ollamad.demo.parts import default_cache
from ollamad.sim.models import Shape, write_model
from ollamad.sim.store import Store
from ollamad.sim.timing import PRESETS, Timing
from tests.support.daemon import Daemons, until
from tests.support.debian import debian_program
from tests.support.fake_nvml import FakeDriver, FakeGpu, build_fake_nvml
from tests.support.real_ollama import free_port
from tests.support.simulated import program_in

GIB: Final = 1024**3
GPUS: Final = 4
VRAM_BYTES: Final = 24 * GIB
SLOTS: Final = 4
SIZES_GIB: Final = (4, 5, 8, 4, 6, 5, 9, 4, 8, 5, 13, 6)
"""Of the models, the most wanted first."""
DRIVER_PERIOD_S: Final = 0.2
"""How often the fake driver is told what the simulated servers hold."""

NGINX: Final = """\
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
worker_processes 1;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream ollamas {{
        {balance}
{servers}
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://ollamas;
            proxy_http_version 1.1;
            proxy_buffering off;
            proxy_read_timeout 1h;
            client_max_body_size 0;
        }}
    }}
}}
"""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request of the workload, in unscaled seconds from its beginning."""

    at_s: float
    model: str
    prompt: str
    tokens: int


@dataclass(frozen=True, slots=True)
class Party:
    """A proxy that is measured, and the servers behind it."""

    base_url: str
    children: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one party, in unscaled seconds."""

    party: str
    requests: int
    failed: int
    ttft_p50_s: float
    ttft_p95_s: float
    loads: int
    makespan_s: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What is run."""

    speed: float
    store: Path
    folder: Path
    fake_nvml: Path

    @property
    def environment(self) -> dict[str, str]:
        """Of every simulated server."""
        return {
            **{f"SIM_{name.upper()}": str(value) for name, value in asdict(scaled(PRESETS["gpu"], self.speed)).items()},
            "SIM_VRAM_BYTES": str(VRAM_BYTES),
            "OLLAMA_MAX_LOADED_MODELS": "8",
            "OLLAMA_CONTEXT_LENGTH": "4096",
        }


Start = Callable[[Plan], AbstractAsyncContextManager[Party]]


def scaled(timing: Timing, speed: float) -> Timing:
    """The same GPU, so many times as fast."""
    values = {field.name: getattr(timing, field.name) for field in fields(Timing)}
    return Timing(**{name: value * speed if "per_s" in name else value / speed for name, value in values.items()})


def workload(models: int, rate_per_s: float, length_s: float, seed: int) -> tuple[Arrival, ...]:
    """Bursty arrivals (Gamma, shape 0.5) of a Zipf mix of models; prompts and answers as of short conversations."""
    luck = random.Random(seed)
    weights = [1 / (rank + 1) for rank in range(models)]
    arrivals, at_s = [], 0.0
    while at_s < length_s:
        at_s += luck.gammavariate(0.5, 2.0 / rate_per_s)
        model = luck.choices(range(models), weights)[0]
        prompt = f"{luck.random()} " + "x" * min(3500, round(luck.lognormvariate(6.5, 0.7)))
        arrivals.append(Arrival(at_s, f"m{model}", prompt, max(4, min(200, round(luck.lognormvariate(3.7, 0.7))))))
    return tuple(arrivals)


def nginx(balance: str) -> Start:
    """A real nginx before servers of one's own."""

    @asynccontextmanager
    async def start(plan: Plan) -> AsyncIterator[Party]:
        async with AsyncExitStack() as stack:
            children = tuple([await stack.enter_async_context(_server(plan, gpu)) for gpu in range(GPUS)])
            base_url = await stack.enter_async_context(_nginx(plan, balance, children))
            yield Party(base_url, children)

    return start


@asynccontextmanager
async def ollamad(plan: Plan) -> AsyncIterator[Party]:
    """Ollamad over servers of its own, on four GPUs of a fake driver that shows what they hold."""
    gpus = [FakeGpu(name="NVIDIA RTX 4090", total_bytes=VRAM_BYTES) for _ in range(GPUS)]
    driver = FakeDriver.create(plan.folder / "nvml", gpus, library=plan.fake_nvml)
    config: dict[str, dict[str, Any]] = {
        "gpus": {"cpu_children": "auto"},
        "ollama": {
            "env": {name: value for name, value in plan.environment.items() if name.startswith("SIM_")},
            "num_parallel": SLOTS,
            "max_loaded_models": 8,
            "context_length": 4096,
        },
        "log": {"level": "info", "format": "json"},
    }
    async with Daemons(plan.folder).run(program_in(plan.folder), config, store=plan.store, env=driver.env()) as daemon:
        await daemon.until_ready(GPUS)
        ports = [child["port"] for child in (await daemon.status())["children"]]
        children = tuple(f"http://127.0.0.1:{port}" for port in ports)
        async with asyncio.TaskGroup() as tasks:
            shown = tasks.create_task(_show_memory(driver, children))
            yield Party(daemon.base_url, children)
            shown.cancel()


PARTIES: Final[dict[str, Start]] = {
    "nginx round robin": nginx(""),
    "nginx least_conn": nginx("least_conn;"),
    "ollamad": ollamad,
}
BASELINE: Final = "nginx least_conn"


@asynccontextmanager
async def _server(plan: Plan, gpu: int) -> AsyncIterator[str]:
    port = free_port()
    base_url = f"http://127.0.0.1:{port}"
    environment = {
        "PATH": os.environ["PATH"],
        **plan.environment,
        "OLLAMA_HOST": f"127.0.0.1:{port}",
        "OLLAMA_MODELS": str(plan.store),
        "OLLAMA_NOPRUNE": "1",
        "OLLAMA_NUM_PARALLEL": str(SLOTS),
        "CUDA_VISIBLE_DEVICES": f"GPU-{gpu}",
    }
    command = (sys.executable, "-m", "ollamad.sim", "serve")
    process = await asyncio.create_subprocess_exec(*command, env=environment, stderr=asyncio.subprocess.DEVNULL)
    try:
        await until(lambda: _answers(f"{base_url}/api/version"))
        yield base_url
    finally:
        process.terminate()
        await process.wait()


@asynccontextmanager
async def _nginx(plan: Plan, balance: str, children: Sequence[str]) -> AsyncIterator[str]:
    program = await asyncio.to_thread(debian_program, "nginx", "usr/sbin/nginx", default_cache())
    folder, port = plan.folder, free_port()
    servers = "\n".join(f"        server {child.removeprefix('http://')};" for child in children)
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port, balance=balance, servers=servers))
    process = await asyncio.create_subprocess_exec(
        *(program, "-p", folder, "-c", folder / "nginx.conf", "-e", folder / "error.log"),
        env={"PATH": os.environ["PATH"]},
    )
    try:
        await until(lambda: _answers(f"http://127.0.0.1:{port}/api/version"))
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()


async def _answers(url: str) -> bool:
    try:
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            return answer.ok
    except aiohttp.ClientError:
        return False


async def _states(children: Sequence[str]) -> list[dict[str, int]]:
    states = []
    async with aiohttp.ClientSession() as session:
        for child in children:
            async with session.get(f"{child}/sim/state") as answer:
                states.append(await answer.json())
    return states


async def _show_memory(driver: FakeDriver, children: Sequence[str]) -> None:
    """Let the driver tell what the servers hold, as the real one would."""
    while True:
        for gpu, state in enumerate(await _states(children)):
            driver.set_memory(gpu, used=state["vram_used_bytes"])
        await asyncio.sleep(DRIVER_PERIOD_S)


async def measured(name: str, party: Party, arrivals: Sequence[Arrival], speed: float) -> Result:
    """Send every request at its time, whatever became of those before it."""
    waits: list[float] = []
    failed = 0
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(
        party.base_url, connector=connector, timeout=aiohttp.ClientTimeout(None)
    ) as client:
        began_s = time.monotonic()

        async def ask(arrival: Arrival) -> None:
            nonlocal failed
            await asyncio.sleep(began_s + arrival.at_s / speed - time.monotonic())
            sent_s = time.monotonic()
            asked = {"model": arrival.model, "prompt": arrival.prompt, "options": {"num_predict": arrival.tokens}}
            async with client.post("/api/generate", json=asked) as answer:
                first = await answer.content.readline()
                first_s = time.monotonic()
                rest = await answer.read()
            if b'"done":true' in rest or b'"done":true' in first:
                waits.append((first_s - sent_s) * speed)
            else:
                failed += 1

        async with asyncio.TaskGroup() as tasks:
            for arrival in arrivals:
                tasks.create_task(ask(arrival))
        took_s = (time.monotonic() - began_s) * speed
    loads = sum(state["loads"] for state in await _states(party.children))
    cuts = statistics.quantiles(waits, n=100)
    return Result(name, len(arrivals), failed, cuts[49], cuts[94], loads, took_s)


def table(title: str, results: Sequence[Result]) -> str:
    """The results, and how many times as good as the baseline each is."""
    base = next((result for result in results if result.party == BASELINE), results[0])
    lines = [title, f"{'':<20}{'TTFT p50':>10}{'p95':>10}{'loads':>8}{'makespan':>10}{'failed':>8}   than least_conn"]
    for result in results:
        better = (
            f"p50 {base.ttft_p50_s / result.ttft_p50_s:.1f}x  p95 {base.ttft_p95_s / result.ttft_p95_s:.1f}x  "
            f"loads {base.loads / max(1, result.loads):.1f}x fewer"
        )
        lines.append(
            f"{result.party:<20}{result.ttft_p50_s:>8.2f} s{result.ttft_p95_s:>8.2f} s{result.loads:>8}"
            f"{result.makespan_s:>8.0f} s{result.failed:>8}   {better}"
        )
    return "\n".join(lines)


async def run(options: argparse.Namespace) -> list[dict[str, object]]:
    """All workloads on all parties; prints as it goes."""
    told: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as scratch:
        library = build_fake_nvml(Path(scratch) / "library")
        store = Store(Path(scratch) / "store")
        for rank, size in enumerate(SIZES_GIB):
            write_model(store, f"m{rank}", Shape(size * GIB))
        for name, models, rate in (("all models fit", 6, options.rate), ("VRAM holds half", 12, options.rate / 2)):
            arrivals = workload(models, rate, options.seconds, options.seed)
            results = []
            for party, start in PARTIES.items():
                folder = Path(tempfile.mkdtemp(dir=scratch))
                async with start(Plan(options.speed, store.folder, folder, library)) as running:
                    results.append(await measured(party, running, arrivals, options.speed))
            title = f"\n{name}: {models} models on {GPUS} GPUs of 24 GiB, {len(arrivals)} requests, {rate:g}/s"
            print(table(title, results), flush=True)
            told.append({"workload": name, "rate_per_s": rate, "results": [asdict(result) for result in results]})
    return told


def main() -> None:
    """Parse, run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=2.0, help="requests a second, unscaled")
    parser.add_argument("--seconds", type=float, default=90.0, help="of arrivals, unscaled")
    parser.add_argument("--speed", type=float, default=4.0, help="how many times as fast as a real GPU")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the results here")
    options = parser.parse_args()
    told = asyncio.run(run(options))
    if options.json:
        options.json.write_text(json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
    main()
