"""A bare real Ollama for tests, and a store of models that it knows; the fixtures are handed on by conftest.py."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import aiohttp
import pytest

from ollamad.demo.gemma import register
from ollamad.demo.parts import default_cache, packaged_ollama
from tests.support.reciting import TEMPLATE, WORDS, write_reciting_model

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator, Iterator, Mapping
    from pathlib import Path

RECITE: Final = "recite:latest"
RECITE_B: Final = "recite-b:latest"
WORDS_B: Final = tuple(f"b{number}" for number in range(40))
"""The words of `recite-b`; those of `recite` are `reciting.WORDS`."""

_START_S: Final = 30.0
"""Until a server must answer; it takes half a second on an idle machine."""
_STOP_S: Final = 10.0
"""Between SIGTERM and SIGKILL."""
_POLL_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class BareOllama:
    """One running `ollama serve` that no ollamad looks after."""

    base_url: str
    """`http://127.0.0.1:PORT`, without a slash at the end."""
    pid: int
    """Of the server; also the id of its process group and session."""
    log: Path
    """Its output."""


@pytest.fixture(scope="session")
def ollama_binary() -> Path:
    """The packaged Ollama, out of the cache that the demo uses."""
    return packaged_ollama(default_cache())


@pytest.fixture(scope="session")
def model_store(ollama_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An OLLAMA_MODELS directory with RECITE and RECITE_B. A test that writes to it copies it first, or all fail."""
    scratch = tmp_path_factory.mktemp("model-store")
    store = scratch / "store"
    with ThreadPoolExecutor(1) as apart:  # a loop of its own, that the test's loop knows nothing of
        apart.submit(asyncio.run, _fill(ollama_binary, store, scratch)).result()
    before = _blobs_and_manifests(store)
    yield store
    assert _blobs_and_manifests(store) == before, "a test has written to the store that all tests share"


def _blobs_and_manifests(store: Path) -> set[Path]:
    return {path for part in ("blobs", "manifests") for path in (store / part).rglob("*") if path.is_file()}


async def _fill(binary: Path, store: Path, scratch: Path) -> None:
    async with bare_ollama(binary, store, scratch / "home") as ollama:
        for name, words in ((RECITE, WORDS), (RECITE_B, WORDS_B)):
            gguf = scratch / f"{name.partition(':')[0]}.gguf"
            write_reciting_model(gguf, words)
            await register(ollama.base_url, name, gguf, template=TEMPLATE)


@asynccontextmanager
async def bare_ollama(
    binary: Path, store: Path, home: Path, port: int | None = None, env: Mapping[str, str] | None = None
) -> AsyncIterator[BareOllama]:
    """Run `ollama serve` on a loopback port (a free one unless `port` says), ready, until the block ends.

    `store` and `home` are made where they aren't there; `env` adds to a small environment, or overrides it. Its whole
    process group is gone afterwards. Raises RuntimeError, with its output, when it doesn't come to answer.
    """
    port = free_port() if port is None else port
    log = home / "ollama.log"
    _make_folders(home / ".ollama", store)
    with log.open("wb") as output:
        server = await asyncio.create_subprocess_exec(
            binary,
            "serve",
            env={**_environment(store, home, port), **(env or {})},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        base_url = f"http://127.0.0.1:{port}"
        await _answers(base_url, server, log)
        yield BareOllama(base_url, server.pid, log)
    finally:
        await _stop(server)


def _make_folders(*folders: Path) -> None:
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)


def free_port() -> int:
    """Return a loopback port that nobody listened on a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


def _environment(store: Path, home: Path, port: int) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "OLLAMA_HOST": f"127.0.0.1:{port}",
        "OLLAMA_MODELS": str(store),
        "OLLAMA_NOPRUNE": "1",
    }


async def _answers(base_url: str, server: Process, log: Path) -> None:
    deadline = time.monotonic() + _START_S
    async with aiohttp.ClientSession(base_url, timeout=aiohttp.ClientTimeout(total=1)) as client:
        while server.returncode is None and time.monotonic() < deadline:
            with suppress(aiohttp.ClientError, TimeoutError):
                async with client.get("/api/version") as answer:
                    if answer.ok:
                        return
            await asyncio.sleep(_POLL_S)
    written = await asyncio.to_thread(log.read_text, errors="replace")
    raise RuntimeError(f"no Ollama at {base_url} (exit status {server.returncode}). It wrote:\n{written[-2000:]}")


async def _stop(server: Process) -> None:
    """SIGTERM to the group, then SIGKILL: a runner that outlived its server is in it, too."""
    _signal(server.pid, signal.SIGTERM)
    with suppress(TimeoutError):
        async with asyncio.timeout(_STOP_S):
            await server.wait()
    _signal(server.pid, signal.SIGKILL)
    await server.wait()


def _signal(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, number)
