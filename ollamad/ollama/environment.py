"""A child's whole environment, deliberate to the last variable: what leaks in by accident differs by the day."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ollamad.config.schema import Ollama
from ollamad.ollama import warden

CHILD_VARIABLE: Final = "OLLAMAD_CHILD"

INHERITED: Final = (
    "PATH",
    "LD_LIBRARY_PATH",  # where a container or a distribution keeps CUDA
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "USER",
    "LOGNAME",
    "HTTPS_PROXY",  # pulls are HTTPS; HTTP_PROXY would catch the calls between Ollama and its runners
    "https_proxy",
    "NO_PROXY",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
)
"""The only variables of ollamad's own environment that a child sees."""

NO_DEVICE: Final = "-1"
"""No GPU has this number: Ollama's documented way to keep a server on the CPU."""

MAKES: Final = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
"""The variables that hide GPUs: NVIDIA's, and two of AMD's."""
READ_WITH: Final[Mapping[str, tuple[str, ...]]] = {
    "ROCR_VISIBLE_DEVICES": ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"),
}
"""What is read after a variable that pins, and chooses among the GPUs that it let through: such a child has none."""

GIB: Final = 1024**3
LONG_CONTEXT_FROM_BYTES: Final = 23 * GIB
"""VRAM from which Ollama itself (0.33, server/routes.go:2048) gives 32768 tokens."""
LONG_CONTEXT: Final = 32_768
SHORT_CONTEXT: Final = 4_096


@dataclass(frozen=True, slots=True)
class Placement:
    """Where one child runs."""

    child: str
    gpu_uuids: Mapping[str, tuple[str, ...]]
    """The UUIDs of its GPUs, by the variable that pins a process to them; empty for a child on the CPU."""
    port: int


@dataclass(frozen=True, slots=True)
class Host:
    """What all children of this run share."""

    instance: str
    home: str
    store: str
    context_length: int


def context_length(setting: str | int, child_vram_bytes: tuple[int | None, ...]) -> int:
    """The context length that all children get: as set, or what the smallest child's VRAM allows.

    Ollama's own third step (262144 tokens from 47 GiB) is left out: the cache of one such slot alone pushes a model
    to the CPU (ollama issues 14116 and 14073).
    """
    if isinstance(setting, int):
        return setting
    smallest = min((size or 0 for size in child_vram_bytes), default=0)
    return LONG_CONTEXT if smallest >= LONG_CONTEXT_FROM_BYTES else SHORT_CONTEXT


def child_environment(own: Mapping[str, str], settings: Ollama, host: Host, placement: Placement) -> dict[str, str]:
    """Every variable of a child. `own` is ollamad's environment, of which little passes."""
    return {
        **{name: own[name] for name in INHERITED if name in own},
        **settings.env,
        warden.MARK: host.instance,
        CHILD_VARIABLE: placement.child,
        "HOME": host.home,
        "OLLAMA_HOST": f"127.0.0.1:{placement.port}",
        "OLLAMA_MODELS": host.store,
        **_devices(placement),
        "OLLAMA_VULKAN": "0",
        "OLLAMA_NOPRUNE": "1",
        "OLLAMA_CONTEXT_LENGTH": str(host.context_length),
        "OLLAMA_NUM_PARALLEL": str(settings.num_parallel),
        "OLLAMA_MAX_LOADED_MODELS": str(settings.max_loaded_models),
        "OLLAMA_MAX_QUEUE": str(settings.max_queue),
        "OLLAMA_KEEP_ALIVE": settings.keep_alive,
        "OLLAMA_LOAD_TIMEOUT": f"{settings.load_timeout_s}s",
        "LLAMA_ARG_CACHE_RAM": str(settings.prompt_cache_mib),
        "LLAMA_ARG_FIT_TARGET": str(settings.fit_margin_mib),
    }


def _devices(placement: Placement) -> dict[str, str]:
    """Its own GPUs and no others, of whatever make."""
    own = placement.gpu_uuids
    read = {name for pins in own for name in READ_WITH.get(pins, ())}
    return {name: NO_DEVICE for name in MAKES if name not in read} | {
        name: ",".join(uuids) for name, uuids in own.items()
    }
