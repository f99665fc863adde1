"""`ollamad demo --real`: what a newcomer lacks, an Ollama, a model, a second child, is got; then `ollamad serve`."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ollamad.config import Config, Loaded, Setting
from ollamad.config.checks import expand
from ollamad.demo.gemma import GEMMA, gemma_gguf
from ollamad.demo.parts import default_cache, packaged_ollama
from ollamad.demo.seed import seed_gemma
from ollamad.errors import GpuError
from ollamad.gpu.nvml import NvmlProvider
from ollamad.gpu.thread import GpuThread
from ollamad.listening import Listening
from ollamad.ollama.names import canonical

Say = Callable[[str], None]

ORIGIN: Final = "demo"
DEMO_CPU_CHILDREN: Final = 2


@dataclass(frozen=True, slots=True)
class Prepared:
    """What `prepare` made of this machine."""

    settings: tuple[Setting, ...]
    """What the demo sets, below all other sources."""
    model: str
    """A model that can be chatted with."""


def prepare(loaded: Loaded, say: Say) -> Prepared:
    """Get what is missing. Raises StartError."""
    cache = default_cache()
    added: list[Setting] = []
    config = loaded.config
    program = shutil.which(config.ollama.binary)
    store = expand(config.models.path, str(Path.home()))
    if program is None and "ollama.binary" not in loaded.origins:
        program = str(packaged_ollama(cache, say))
        added.append(Setting("ollama.binary", program, ORIGIN))
        if "models.path" not in loaded.origins:
            # An Ollama this old must not be let loose on a store that a newer one keeps.
            store = cache / "models"
            added.append(Setting("models.path", str(store), ORIGIN))
    if not asyncio.run(_sees_gpu(config)):
        added.append(Setting("gpus.cpu_children", DEMO_CPU_CHILDREN, ORIGIN))
    if program is not None and first_model(store) is None:
        gguf = gemma_gguf(cache, say)
        store.mkdir(parents=True, exist_ok=True)
        say("the store is empty: registering Gemma 3 270M in it…")
        asyncio.run(seed_gemma(config, Path(program), store, gguf))
    return Prepared(tuple(added), first_model(store) or GEMMA)


def banner(listening: Listening, model: str) -> str:
    """Where to send requests, and one line to paste."""
    base = listening.proxy_url
    chat = json.dumps({"model": model, "messages": [{"role": "user", "content": "Why is the sky blue?"}]})
    return f"""
ollamad listens on {base}; point any Ollama or OpenAI client at it.
What it is doing: {listening.status_url}/

Try it:

  curl {base}/api/chat -d '{chat}'

Ctrl-C stops it.
"""


def first_model(store: Path) -> str | None:
    """The name of some model of a store; None where it has none."""
    manifests = store / "manifests"
    for path in sorted(manifests.glob("*/*/*/*")):
        host, namespace, model, tag = path.relative_to(manifests).parts
        return canonical(f"{host}/{namespace}/{model}:{tag}")
    return None


async def _sees_gpu(config: Config) -> bool:
    thread = GpuThread(NvmlProvider(), timeout_s=config.gpus.call_timeout_s)
    try:
        return bool((await thread.discover()).gpus)
    except GpuError:
        return False
    finally:
        thread.close()
