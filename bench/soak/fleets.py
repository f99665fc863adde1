"""The two fleets that a soak runs: real Ollamas on the CPU, and simulated ones on GPUs of a fake driver."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ollamad.demo.gemma import register
from ollamad.demo.parts import default_cache, packaged_ollama
from ollamad.sim.models import Shape, write_model
from ollamad.sim.recital import WORDS as SIM_WORDS
from ollamad.sim.store import Store
from tests.support.daemon import BASE_PORT, Daemon, Daemons
from tests.support.fake_nvml import FakeDriver, FakeGpu, build_fake_nvml
from tests.support.real_ollama import RECITE, RECITE_B, WORDS_B, bare_ollama
from tests.support.reciting import TEMPLATE, WORDS, write_reciting_model
from tests.support.simulated import program_in

GIB: Final = 1 << 30
SIM_MODELS: Final = tuple(f"sim-{number}:latest" for number in range(6))
GPUS: Final = 4
TABLES: Final[dict[str, dict[str, Any]]] = {
    # Faults come every few seconds, and must be noticed and mended in about as many.
    "supervision": {
        "probe_timeout_s": 1.0,
        "resident_interval_s": 0.5,
        "backoff_initial_s": 0.1,
        "backoff_max_s": 1.0,
        "crash_loop_deaths": 1000,
        "stream_stall_s": 3.0,
        "first_byte_stall_s": 8.0,  # an Ollama may keep for ever the slot of a client that left
        "runner_grace_s": 0.5,
        "wedges_max": 100,
    },
    "ollama": {"start_timeout_s": 15},  # one that is frozen as it starts is found so
    # A connection that is kept for a minute would be an open file more or less, as luck has it.
    "proxy": {"ready_wait_s": 120, "attempts_max": 8, "child_idle_timeout_s": 1.0},
    "routing": {"wait_max_s": 120},
    "log": {"level": "info", "format": "json"},
}
GPU_TABLE: Final[dict[str, Any]] = {
    "cpu_children": "auto",
    "sample_interval_s": 0.1,
    "call_timeout_s": 0.5,
    "rediscover_interval_s": 0.5,
    "unanswered_max_s": 0.5,
    "recover_after_s": 0.5,
    "recover_max_s": 1.0,
}


@dataclass(slots=True)
class Fleet:
    """One daemon under soak, and what may be done to it."""

    name: str
    daemon: Daemon
    words: dict[str, tuple[str, ...]]
    """What each model recites."""
    clients: int
    children: int
    driver: FakeDriver | None = None
    foreign: dict[int, int] = field(default_factory=dict)
    """Bytes that somebody else has, by GPU."""

    async def control(self, method: str, path: str) -> tuple[int, str]:
        """Ask over the control socket."""
        async with self.daemon.operator() as session, session.request(method, path) as answer:
            return answer.status, await answer.text()

    async def some_child(self, luck: random.Random) -> dict[str, Any]:
        """A child that has a process, by chance; any, where none has."""
        children = (await self.daemon.status())["children"]
        return luck.choice([child for child in children if child["pid"]] or children)


@asynccontextmanager
async def real(folder: Path) -> AsyncIterator[Fleet]:
    """Two real Ollamas that recite."""
    program = packaged_ollama(default_cache())
    store = folder / "store"
    words = {RECITE: WORDS, RECITE_B: WORDS_B}
    async with bare_ollama(program, store, folder / "bare") as bare:
        for name, vocabulary in words.items():
            gguf = folder / f"{name.partition(':')[0]}.gguf"
            await asyncio.to_thread(write_reciting_model, gguf, vocabulary)
            await register(bare.base_url, name, gguf, template=TEMPLATE)
    async with Daemons(folder).run(program, TABLES, store=store) as daemon:
        await daemon.until_ready(2)
        yield Fleet("real", daemon, words, clients=4, children=2)


@asynccontextmanager
async def simulated(folder: Path) -> AsyncIterator[Fleet]:
    """Four GPUs of which each holds two of six models."""
    store = Store(folder / "store")
    for model in SIM_MODELS:
        write_model(store, model, Shape(size_bytes=9 * GIB))
    library = await asyncio.to_thread(build_fake_nvml, folder / "nvml")
    driver = FakeDriver.create(
        folder / "nvml-state", [FakeGpu(total_bytes=24 * GIB) for _ in range(GPUS)], library=library
    )
    ports = BASE_PORT + 25
    env = {"SIM_RUNNERS": "1", "SIM_LOAD_FIXED_S": "0.2", "SIM_DECODE_FIXED_S": "0.005", "SIM_START_S": "0.1"}
    tables = {
        **TABLES,
        "gpus": GPU_TABLE,
        "ollama": {**TABLES["ollama"], "num_parallel": 4, "max_loaded_models": 2, "base_port": ports, "env": env},
    }
    words = dict.fromkeys(SIM_MODELS, SIM_WORDS)
    async with Daemons(folder).run(program_in(folder), tables, store=store.folder, env=driver.env()) as daemon:
        await daemon.until_ready(GPUS)
        yield Fleet("simulated", daemon, words, clients=24, children=GPUS, driver=driver)
