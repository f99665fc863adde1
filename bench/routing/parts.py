"""What a simulation is about: models, GPUs, requests."""

from __future__ import annotations

from dataclasses import dataclass, field

from ollamad.routing.knowledge import KV_BYTES_PER_TOKEN, KV_MODEL_BYTES, RUNNER_BYTES
from ollamad.routing.prefixes import BLOCK_BYTES
from ollamad.routing.request import Work

GB = 1_000_000_000
BYTES_PER_TOKEN = 4
COMPANY = 0.11
"""How much longer a decoding step gets for each further stream in it. An RTX 3090 with llama 8B Q4_0 does 155, 277, 390
and 469 tokens/s in batches of 1 to 4 (llama.cpp, pull request 15802): steps of 6.5, 7.2, 7.7 and 8.5 ms."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model as it is on disk."""

    name: str
    file_bytes: int
    embeds: bool = False

    def vram_bytes(self, context_tokens: int, slots: int) -> int:
        """Weights, and the cache of all slots, as `/api/ps` would say."""
        slots = 1 if self.embeds else slots
        return self.file_bytes + int(
            KV_BYTES_PER_TOKEN * (self.file_bytes / KV_MODEL_BYTES) ** 0.5 * context_tokens * slots
        )


@dataclass(frozen=True, slots=True)
class GpuKind:
    """A GPU. The defaults are an RTX 3090, as llama.cpp's developers measured it."""

    name: str = "24 GB"
    memory_bytes: int = 24 * GB
    bandwidth: float = 6.1e11
    """Weights read a second while decoding: 155 tokens/s of 4.66 GB, less 15 % for the sampling and the cache."""
    prefill_work: float = 1.6e13
    """Prompt tokens a second, times bytes of weights: 3,500/s for 8 billion (llama.cpp, pull request 7860)."""
    load_bytes_per_s: float = 2e9
    load_fixed_s: float = 1.0

    def load_s(self, model: Model) -> float:
        """From a warm page cache."""
        return self.load_fixed_s + model.file_bytes / self.load_bytes_per_s

    def prefill_per_s(self, model: Model) -> float:
        """Alone on the GPU."""
        return self.prefill_work / model.file_bytes

    def step_s(self, model: Model, streams: int) -> float:
        """One token for each of so many streams."""
        return model.file_bytes / self.bandwidth * (1 + COMPANY * (streams - 1))


@dataclass(slots=True, eq=False)
class Asked:
    """One request, and what became of it."""

    number: int
    model: Model
    prompt_tokens: int
    output_tokens: int
    client: str = "a client"
    chat: int = -1
    """Requests of one chat begin with all that was said in it."""
    system: int = -1
    """Requests of one system prompt begin with it."""
    system_tokens: int = 0
    work: Work = Work.GENERATE
    asked_s: float = 0.0
    first_s: float | None = None
    done_s: float | None = None
    failed: bool = False
    then: list[tuple[float, Asked]] = field(default_factory=list)
    """What its client asks next, so many seconds after the end of this."""

    @property
    def prompt_bytes(self) -> int:
        """Of its text."""
        return self.prompt_tokens * BYTES_PER_TOKEN

    @property
    def prefix(self) -> tuple[int, ...]:
        """The chain of its prompt's blocks, as hashing the text would give it."""
        blocks = self.prompt_bytes // BLOCK_BYTES
        shared = min(blocks, self.system_tokens * BYTES_PER_TOKEN // BLOCK_BYTES)
        own = self.chat if self.chat >= 0 else -2 - self.number
        system = (hash(("system", self.system, block)) for block in range(shared))
        return (*system, *(hash(("own", own, block)) for block in range(shared, blocks)))

    def shared_tokens(self, held: Asked) -> int:
        """How much of this prompt a slot holds after `held`."""
        if self.chat >= 0 and self.chat == held.chat:
            return min(self.prompt_tokens, held.prompt_tokens + held.output_tokens)
        if self.system >= 0 and self.system == held.system:
            return min(self.system_tokens, held.system_tokens)
        return 0


__all__ = ["BYTES_PER_TOKEN", "GB", "RUNNER_BYTES", "Asked", "GpuKind", "Model"]
