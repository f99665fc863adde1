"""Ollama's scheduling decisions (0.33, server/sched.go), without the scheduler: what fits, and what must go."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

from ollamad.sim.prompts import common_prefix

GRAPH_BYTES: Final = 64 * 1024**2
"""What a runner takes beside weights and cache."""
WORTH_KEEPING: Final = 0.1
"""A slot is chosen for its cache only if it holds more than this share of the prompt (llama-server)."""
MIN_CONTEXT: Final = 4

_RELOADING: Final = ("num_batch", "num_gpu", "main_gpu", "use_mmap", "num_thread")
"""Options that a loaded model can't change."""


@dataclass(frozen=True, slots=True)
class Load:
    """The form in which a model is loaded; a request that needs another makes Ollama load it anew."""

    context: int
    options: tuple[tuple[str, Any], ...] = ()


def load_for(options: Mapping[str, Any], context_default: int, context_trained: int) -> Load:
    """The form that a request's options ask for."""
    context = int(options.get("num_ctx") or context_default)
    limited = min(context, context_trained) if context_trained else context
    said = tuple((name, options[name]) for name in _RELOADING if options.get(name, -1) != -1)
    return Load(max(MIN_CONTEXT, limited), said)


def needed_bytes(weights_bytes: int, kv_bytes_per_token: int, context: int, parallel: int) -> int:
    """What a model takes once it is loaded: each slot has a cache of its own."""
    return weights_bytes + kv_bytes_per_token * context * parallel + GRAPH_BYTES


class Evictable(Protocol):
    """What is known of a loaded model when another needs its place."""

    @property
    def busy(self) -> bool:
        """Whether it works on a request."""

    @property
    def keep_alive_ns(self) -> int:
        """How long it stays after its last request."""

    @property
    def key(self) -> str:
        """What tells it from others."""


E = TypeVar("E", bound=Evictable)


def victim(loaded: Iterable[E]) -> E | None:
    """What is unloaded first: of the idle ones the one with the shortest keep-alive, else of the busy ones."""
    return min(loaded, key=lambda runner: (runner.busy, runner.keep_alive_ns, runner.key), default=None)


def choose_slot(free: Sequence[int], cached: Sequence[Sequence[int]], prompt: Sequence[int]) -> tuple[int, int]:
    """The slot for a prompt, and how many of its tokens that slot holds. `free` begins with the least recently used."""
    held = {slot: common_prefix(cached[slot], prompt) for slot in free}
    best = max(free, key=lambda slot: held[slot])
    if held[best] > WORTH_KEEPING * len(prompt):
        return best, held[best]
    return free[0], held[free[0]]
