"""What a simulated server goes by: the same environment as the real one, and `SIM_*` for what only a simulation has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ollamad.sim.golang import NS, keep_alive_setting_ns
from ollamad.sim.timing import Timing, timing_of

DEFAULT_PORT: Final = 11_434
GIB: Final = 1024**3


@dataclass(frozen=True, slots=True)
class Settings:
    """One server's settings, with Ollama's own defaults."""

    store: Path
    host: str = "127.0.0.1"
    port: int = 0
    """0 is one of the kernel's choice."""
    num_parallel: int = 1
    max_loaded_models: int = 3
    max_queue: int = 512
    keep_alive_ns: int = 300 * NS
    context_length: int = 2048
    noprune: bool = True
    devices: tuple[str, ...] = ()
    """The GPUs of `CUDA_VISIBLE_DEVICES`; none is the CPU."""
    vram_bytes: int = 24 * GIB
    """`SIM_VRAM_BYTES`, of each device."""
    version: str = "0.5.4"
    """`SIM_VERSION`: what `/api/version` says. From 0.5.5 on `create` takes `files` and `from`."""
    answer_tokens: int = 0
    """`SIM_ANSWER_TOKENS`: how long an answer is that its request does not limit; 0 is ten times the context."""
    runners: bool = False
    """`SIM_RUNNERS`: whether each loaded model has a process of its own, which does nothing."""
    timing: Timing = field(default_factory=Timing)

    @property
    def total_vram_bytes(self) -> int:
        """Of all devices; 0 on the CPU."""
        return self.vram_bytes * len(self.devices)


def settings_of(environment: Mapping[str, str]) -> Settings:
    """Read the environment of a server. Raises KeyError and ValueError where it makes no sense."""
    told = {name: text.strip().strip("\"'") for name, text in environment.items()}
    host, _, port = told.get("OLLAMA_HOST", "").removeprefix("http://").rpartition(":")
    home = told.get("HOME", "/")
    devices = tuple(part for part in told.get("CUDA_VISIBLE_DEVICES", "").split(",") if part and part != "-1")
    return Settings(
        store=Path(told.get("OLLAMA_MODELS") or f"{home}/.ollama/models"),
        host=host or "127.0.0.1",
        port=int(port or DEFAULT_PORT),
        num_parallel=int(told.get("OLLAMA_NUM_PARALLEL") or 0) or 1,
        max_loaded_models=int(told.get("OLLAMA_MAX_LOADED_MODELS") or 0) or 3 * max(1, len(devices)),
        max_queue=int(told.get("OLLAMA_MAX_QUEUE") or 512),
        keep_alive_ns=keep_alive_setting_ns(told.get("OLLAMA_KEEP_ALIVE") or "5m"),
        context_length=int(told.get("OLLAMA_CONTEXT_LENGTH") or 0) or 2048,
        noprune=told.get("OLLAMA_NOPRUNE", "0") not in {"", "0", "false"},
        devices=devices,
        vram_bytes=int(told.get("SIM_VRAM_BYTES") or 24 * GIB),
        version=told.get("SIM_VERSION") or "0.5.4",
        answer_tokens=int(told.get("SIM_ANSWER_TOKENS") or 0),
        runners=told.get("SIM_RUNNERS", "0") == "1",
        timing=timing_of(told),
    )
