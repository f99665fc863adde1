"""What the contract suite runs against. To add a target, write a factory and give it a name in TARGETS."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp

from tests.contract.asking import Told, ask_all
from tests.contract.scenarios import ALL_SCENARIOS
from tests.support.daemon import Daemons, until
from tests.support.real_ollama import bare_ollama, free_port

BASE_PORT: Final = 11_900
"""Of the children of a daemon that runs all the while: not one that the daemons of other tests choose."""
NEWER_BASE_PORT: Final = 11_800
"""The same, of a newer Ollama."""
FIRST_MODEL_NS: Final = 1_790_000_000_123_456_789
APART_NS: Final = 10_000_000_000
"""Between the times of two models: Ollama lists those of one second in no order."""


@dataclass(frozen=True, slots=True)
class World:
    """What a target is made of."""

    ollama: Path
    """The real program."""
    version: str
    """What it says of itself; the simulation says the same."""
    store: Path
    """A store of the target's own, with the models of every other target."""
    folder: Path
    base_port: int
    """Of a daemon's children; a second daemon's begin 50 further."""


@dataclass(frozen=True, slots=True)
class Target:
    """Something that speaks Ollama's API."""

    base_url: str
    store: Path
    children: int = 1
    """How many Ollamas there are behind it."""


@asynccontextmanager
async def real(world: World) -> AsyncIterator[Target]:
    """A bare Ollama."""
    async with bare_ollama(world.ollama, world.store, world.folder / "home") as server:
        yield Target(server.base_url, world.store)


@asynccontextmanager
async def simulated(world: World) -> AsyncIterator[Target]:
    """A bare simulated Ollama, as a process of its own."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ollamad.sim", "serve"),
        env={
            "PATH": os.environ["PATH"],
            "OLLAMA_HOST": f"127.0.0.1:{port}",
            "OLLAMA_MODELS": str(world.store),
            "OLLAMA_NOPRUNE": "1",
            "SIM_VERSION": world.version,
        },
    )
    base_url = f"http://127.0.0.1:{port}"
    try:
        await until(lambda: _answers(base_url))
        yield Target(base_url, world.store)
    finally:
        process.terminate()
        await process.wait()


@asynccontextmanager
async def through_ollamad(world: World) -> AsyncIterator[Target]:
    """ollamad over two real Ollamas with one store."""
    apart = {"ollama": {"base_port": world.base_port}}
    async with Daemons(world.folder).run(world.ollama, apart, store=world.store) as daemon:
        await daemon.until_ready(2)
        yield Target(daemon.base_url, world.store, children=2)


@asynccontextmanager
async def with_stores_apart(world: World) -> AsyncIterator[Target]:
    """ollamad over two real Ollamas, each with a store of its own that has come from this one."""
    apart: dict[str, dict[str, Any]] = {
        "ollama": {"base_port": world.base_port + 50},
        "models": {"store": "per-child"},
    }
    async with Daemons(world.folder).run(world.ollama, apart, store=world.store) as daemon:
        await daemon.until_ready(2)
        await until(lambda: daemon.said("models synchronized"), daemon.explain)
        yield Target(daemon.base_url, world.store / "children" / "cpu0", children=2)


Factory = Callable[[World], AbstractAsyncContextManager[Target]]
REFERENCE: Final = "real"
TARGETS: Final[dict[str, Factory]] = {
    REFERENCE: real,
    "simulated": simulated,
    "ollamad": through_ollamad,
    "ollamad-apart": with_stores_apart,
}
NEWER: Final = tuple(name for name in TARGETS if name != "simulated")
"""Those that can be had of another version; the simulation is of one."""


class Targets:
    """Targets, each started when it is first asked for, and what the reference said."""

    def __init__(self, ollama: Path, models: Path, folder: Path, base_port: int) -> None:
        self._ollama, self._models, self._folder, self._base_port = ollama, models, folder, base_port
        self._stack = AsyncExitStack()
        self._running: dict[str, Target] = {}
        self._said: dict[str, list[Told]] = {}

    async def target(self, name: str) -> Target:
        """A running target."""
        if name not in self._running:
            version = "" if name == REFERENCE else await _version((await self.target(REFERENCE)).base_url)
            store = self._folder / name / "store"
            await asyncio.to_thread(_copy_store, self._models, store)
            world = World(self._ollama, version, store, self._folder / name, self._base_port)
            self._running[name] = await self._stack.enter_async_context(TARGETS[name](world))
        return self._running[name]

    async def expected(self, scenario: str) -> list[Told]:
        """What a bare real Ollama answers to a scenario."""
        if scenario not in self._said:
            reference = await self.target(REFERENCE)
            self._said[scenario] = await ask_all(reference.base_url, reference.store, ALL_SCENARIOS[scenario])
        return self._said[scenario]

    async def close(self) -> None:
        """Stop them all."""
        await self._stack.aclose()


async def _answers(base_url: str) -> bool:
    try:
        return bool(await _version(base_url))
    except aiohttp.ClientError:
        return False


async def _version(base_url: str) -> str:
    async with aiohttp.ClientSession() as session, session.get(f"{base_url}/api/version") as answer:
        version: str = (await answer.json())["version"]
        return version


def _copy_store(source: Path, target: Path) -> None:
    """A copy with times of its own, so that every list has one order."""
    shutil.copytree(source, target)
    manifests = sorted(path for path in (target / "manifests").rglob("*") if path.is_file())
    for place, path in enumerate(manifests):
        os.utime(path, ns=(FIRST_MODEL_NS, FIRST_MODEL_NS + place * APART_NS))
