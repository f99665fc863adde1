"""What the demo stands on: a folder of its own with a store, a program, and the settings that point the daemon there.

Nothing outside of the folder is read or written, and it goes when the demo ends.
"""

from __future__ import annotations

import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ollamad.config import Setting
from ollamad.demo.driver import DriverFolder
from ollamad.demo.provider import GIB, VRAM_BYTES
from ollamad.sim.models import Shape, write_model
from ollamad.sim.store import Store

ORIGIN: Final = "demo"
HOST: Final = "127.0.0.1"
PORTS_TRIED: Final = 20

MODELS: Final = {
    "llama3.1:8b": Shape(round(4.6 * GIB)),
    "qwen3:14b": Shape(round(8.6 * GIB), layers=40, width=5120, heads=40, family="qwen3"),
    "gemma3:27b": Shape(round(16.2 * GIB), layers=62, width=5376, family="gemma3"),
    "mistral-small:24b": Shape(round(13.3 * GIB), layers=40, width=5120),
    "nomic-embed-text:latest": Shape(round(0.26 * GIB), layers=12, width=768, heads=12, kv_heads=12, family="bert"),
}

TIMES: Final = {
    "SIM_PRESET": "gpu",
    "SIM_START_S": "0.2",
    "SIM_LOAD_FIXED_S": "0.4",
    "SIM_LOAD_BYTES_PER_S": "6e9",
    "SIM_DECODE_FIXED_S": "0.004",
    "SIM_DECODE_BYTES_PER_S": "6e11",
}
"""Of a card of 24 GB, with the files in the page cache: the 8B gives 75 tokens a second, the 27B loads in 3 s."""

IMPATIENT: Final = {
    "supervision.probe_timeout_s": 1.0,
    "supervision.stream_stall_s": 4.0,
    "supervision.first_byte_stall_s": 8.0,
    "supervision.failed_retry_s": 20.0,
    "gpus.sample_interval_s": 0.5,
    "gpus.call_timeout_s": 2.0,
    "gpus.unanswered_max_s": 3.0,
    "gpus.rediscover_interval_s": 5.0,
    "gpus.recover_after_s": 4.0,
    "gpus.recover_max_s": 30.0,
    "supervision.vram_wait_s": 3.0,
    "ollama.keep_alive": "3m",
}
"""Who looks on does not want to wait a minute to see a hang noticed, or half an hour to see a GPU trusted again."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A folder that is ready for a demo."""

    driver: DriverFolder
    settings: tuple[Setting, ...]
    """What the demo sets, below a file that is named and flags."""


@contextmanager
def stage() -> Iterator[Stage]:
    """A stage for as long as the block lasts."""
    with tempfile.TemporaryDirectory(prefix="ollamad-demo-") as name:
        folder = Path(name)
        for inside in ("driver", "home", "state"):
            (folder / inside).mkdir()
        store = Store(folder / "models")
        for model, shape in MODELS.items():
            write_model(store, model, shape)
        driver = DriverFolder(folder / "driver")
        settings = {
            "proxy.listen": _free_address(11_434),
            "status.listen": _free_address(11_480),
            "ollama.binary": str(_program(folder)),
            "ollama.home": str(folder / "home"),
            "ollama.num_parallel": 4,
            "ollama.context_length": 4096,
            "ollama.env": _environment(driver),
            "models.path": str(folder / "models"),
            "routing.state_dir": str(folder / "state"),
            "log.level": "warning",
            "proxy.shutdown_grace_s": 1.0,
            **IMPATIENT,
        }
        yield Stage(driver, tuple(Setting(key, value, ORIGIN) for key, value in settings.items()))


def _environment(driver: DriverFolder) -> dict[str, str]:
    return {**TIMES, "SIM_VRAM_BYTES": str(VRAM_BYTES), "SIM_RUNNERS": "1", "SIM_DRIVER": str(driver.path)}


def _program(folder: Path) -> Path:
    """Something that can be started as `ollama`."""
    program = folder / "ollama"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ollamad.sim "$@"\n')
    program.chmod(0o755)
    return program


def _free_address(port: int) -> str:
    """Such a port on loopback, or one after it where somebody has it; the last one tried is told as taken."""
    for tried in range(port, port + PORTS_TRIED):
        with closing(socket.socket()) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, tried))
            except OSError:
                continue
            return f"{HOST}:{tried}"
    return f"{HOST}:{port}"
