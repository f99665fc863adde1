"""A first model for an empty store, put there through an Ollama that runs only for that."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import deque
from pathlib import Path
from typing import Final

import aiohttp

from ollamad.config.checks import expand
from ollamad.config.schema import Config
from ollamad.demo.gemma import register_gemma
from ollamad.errors import NoAnswer, StartError
from ollamad.ollama.client import ChildClient
from ollamad.ollama.environment import Host, Placement, child_environment
from ollamad.ollama.ports import free_port
from ollamad.ollama.process import ServeProcess

ANSWER_S: Final = 5.0
LOOK_S: Final = 0.05
STOP_S: Final = 5.0


async def seed_gemma(config: Config, program: Path, store: Path, gguf: Path) -> None:
    """Make Gemma a model of this store. Raises StartError."""
    home = str(expand(config.ollama.home, str(Path.home())))
    port = free_port(config.ollama.base_port, frozenset())
    host = Host(instance="demo-seed", home=home, store=str(store), context_length=4096)
    environment = child_environment(os.environ, config.ollama, host, Placement("seed", {}, port))
    said: deque[str] = deque(maxlen=5)
    try:
        server = ServeProcess([program, "serve"], environment)
    except OSError as error:
        raise StartError(f"{program} can't be run: {error}") from error
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.drain(said.append))
            try:
                await _until_it_answers(f"http://127.0.0.1:{port}", config.ollama.start_timeout_s, said)
                await register_gemma(f"http://127.0.0.1:{port}", gguf)
            finally:
                server.terminate()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(STOP_S):
                        await server.exited()
                await server.sweep(STOP_S, lambda pids: said.append(f"processes {pids} outlive kill"))
    except* StartError as group:
        raise group.exceptions[0] from None


async def _until_it_answers(base_url: str, patience_s: float, said: deque[str]) -> None:
    deadline_s = time.monotonic() + patience_s
    async with aiohttp.ClientSession() as session:
        client = ChildClient(session, base_url, ANSWER_S)
        while time.monotonic() < deadline_s:
            try:
                await client.version()
            except NoAnswer:
                await asyncio.sleep(LOOK_S)
            else:
                return
    raise StartError(f"Ollama did not answer within {patience_s:g} s; it said: {' | '.join(said)}")
