"""What was learned of models and of the hardware they run on, with priors for what was not.

Every value is kept by model and by kind of hardware. A model that is new to a kind is taken to behave like the others
there, scaled by its size: reading twice the weights takes twice as long. Where not even that is known, a prior speaks.
Children of unlike speed come out right by themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from ollamad.routing.estimate import Estimate

GB: Final = 1_000_000_000
UNKNOWN_BYTES: Final = 4 * GB
"""Taken for the size of a model of which nothing is known: some 7 billion weights at four bits."""
LOAD_FIXED_S: Final = 1.0
LOAD_BYTES_PER_S: Final = 2 * GB
OUTPUT_TOKENS: Final = 200.0
BYTES_PER_TOKEN: Final = 4.0
WARM_S: Final = 900.0
"""A file read within this long is taken to be in the page cache still."""
RUNNER_BYTES: Final = 400_000_000
"""What a runner takes beside what `/api/ps` says: its CUDA context (seen 300 to 500 MB)."""
KV_BYTES_PER_TOKEN: Final = 131_072
"""Of an 8-billion model with grouped attention (32 layers, 8 heads of 128, f16 keys and values)."""
KV_MODEL_BYTES: Final = 4_700_000_000
"""The file of that model at four bits; others are scaled by the root of their size."""
FORCED_SINGLE: Final = frozenset(
    {"bert", "nomic-bert", "mllama", "qwen3vl", "qwen3vlmoe", "qwen35", "qwen35moe", "qwen3next"}
    | {"lfm2", "lfm2moe", "nemotron_h", "nemotron_h_moe", "nemotron_h_omni"}
)
"""Families that Ollama (0.33, server/sched.go:507) gives one slot whatever OLLAMA_NUM_PARALLEL says."""


class What(Enum):
    """A thing that is learned."""

    __hash__ = object.__hash__  # there is one of each; an enum's own takes the tenth part of a decision on a full fleet

    LOAD_S = "load_s"
    LOAD_COLD_S = "load_cold_s"
    """The same when the file had to come from disk."""
    PREFILL_PER_S = "prefill_per_s"
    DECODE_PER_S = "decode_per_s"
    SERVICE_S = "service_s"
    """From lease to lease given back."""
    EMBED_S = "embed_s"
    """The same for embeddings."""
    OUTPUT_TOKENS = "output_tokens"
    BYTES_PER_TOKEN = "bytes_per_token"  # noqa: S105 - a token of text
    VRAM_BYTES = "vram_bytes"


GROWS_WITH_SIZE: Final = frozenset({What.LOAD_S, What.LOAD_COLD_S, What.SERVICE_S, What.EMBED_S})
SHRINKS_WITH_SIZE: Final = frozenset({What.PREFILL_PER_S, What.DECODE_PER_S})

ANYWHERE: Final = ""
"""In place of a kind, or of a model: the value is not by kind, or is of a model of 1 GB."""

SMOOTHED: Final = 0.5
"""Share of what is fixed in scaling by size: a model of half the size is not twice as fast in everything."""


@dataclass(frozen=True, slots=True)
class Tally:
    """The counts that a child gives at the end of a response. None where it did not."""

    load_s: float | None = None
    prompt_tokens: int | None = None
    prompt_s: float | None = None
    output_tokens: int | None = None
    output_s: float | None = None


class Knowledge:
    """What is known. Reading it never fails: where nothing was learned there is a prior."""

    def __init__(self) -> None:
        self.values: dict[tuple[What, str, str], Estimate] = {}
        self.files_bytes: dict[str, int] = {}
        """Size of each model's weights, as `/api/tags` says."""
        self.families: dict[str, str] = {}
        self.read_at_s: dict[str, float] = {}
        """When each model was last loaded by any child, or seen loaded."""
        self._told: set[str] = set()

    def learn(self, what: What, model: str, kind: str, value: float) -> None:
        """Take one value in."""
        if value <= 0:
            return
        self.values.setdefault((what, model, kind), Estimate()).add(value)
        if kind:
            scaled = value / self._scale(what, model)
            self.values.setdefault((what, ANYWHERE, kind), Estimate()).add(scaled)

    def know(self, what: What, model: str, kind: str, prior: float) -> float:
        """The learned value; else that of others of this kind, scaled by size; else the prior."""
        found = self.values.get((what, model, kind))
        if found is not None:
            return found.mean
        if kind:
            others = self.values.get((what, ANYWHERE, kind))
            if others is not None:
                return others.mean * self._scale(what, model)
        return prior

    def is_sure(self, what: What, model: str, kind: str) -> bool:
        """Whether there are values enough to turn somebody away by."""
        found = self.values.get((what, model, kind))
        return found is not None and found.count >= 5  # noqa: PLR2004 - a handful

    def size_bytes(self, model: str) -> int:
        """Of the weights."""
        return self.files_bytes.get(model, UNKNOWN_BYTES)

    def load_s(self, model: str, kind: str, now_s: float) -> float:
        """How long a load takes, from a page cache that is warm or cold."""
        read_s = self.read_at_s.get(model)
        warm = read_s is not None and now_s - read_s < WARM_S
        prior = LOAD_FIXED_S + self.size_bytes(model) / LOAD_BYTES_PER_S
        if warm:
            return self.know(What.LOAD_S, model, kind, self.know(What.LOAD_COLD_S, model, kind, prior))
        return self.know(What.LOAD_COLD_S, model, kind, self.know(What.LOAD_S, model, kind, prior))

    def loaded(self, model: str, kind: str, took_s: float, now_s: float) -> None:
        """A load is over."""
        read_s = self.read_at_s.get(model)
        warm = read_s is not None and now_s - read_s < WARM_S
        self.learn(What.LOAD_S if warm else What.LOAD_COLD_S, model, kind, took_s)
        self.read_at_s[model] = now_s

    def prefill_per_s(self, model: str, kind: str) -> float:
        """Prompt tokens a second. Prior: of a consumer GPU, or of a few CPU cores."""
        work = 2e11 if kind == "cpu" else 1.2e13
        return self.know(What.PREFILL_PER_S, model, kind, work / self.size_bytes(model))

    def service_s(self, model: str, kind: str, *, embeds: bool = False) -> float:
        """How long a request holds its slot."""
        if embeds:
            return self.know(What.EMBED_S, model, kind, 0.1)
        bandwidth = 3e10 if kind == "cpu" else 4e11
        per_s = self.know(What.DECODE_PER_S, model, kind, bandwidth / self.size_bytes(model))
        return self.know(What.SERVICE_S, model, kind, self.output_tokens(model) / per_s)

    def output_tokens(self, model: str) -> float:
        """How long its answers are."""
        return self.know(What.OUTPUT_TOKENS, model, ANYWHERE, OUTPUT_TOKENS)

    def tokens(self, model: str, prompt_bytes: int) -> float:
        """How many tokens a prompt of this many bytes has."""
        return prompt_bytes / self.know(What.BYTES_PER_TOKEN, model, ANYWHERE, BYTES_PER_TOKEN)

    def slots(self, model: str, configured: int) -> int:
        """How many requests its runner serves at once."""
        return 1 if self.families.get(model) in FORCED_SINGLE else configured

    def vram_bytes(self, model: str, context_tokens: int) -> int:
        """What it takes on a GPU, all its slots' caches of `context_tokens` in all included."""
        size = self.size_bytes(model)
        cache = KV_BYTES_PER_TOKEN * (size / KV_MODEL_BYTES) ** 0.5 * context_tokens
        return int(self.know(What.VRAM_BYTES, model, ANYWHERE, size + cache)) + RUNNER_BYTES

    def answered(self, model: str, kind: str, tally: Tally, prompt_bytes: int, *, cached: bool) -> None:
        """A response is whole. `cached`: part of its prompt was there already, so it says little of prefill."""
        if tally.output_tokens and tally.output_s and tally.output_tokens > 1:
            self.learn(What.OUTPUT_TOKENS, model, ANYWHERE, tally.output_tokens)
            self.learn(What.DECODE_PER_S, model, kind, tally.output_tokens / tally.output_s)
        if cached or not tally.prompt_tokens or tally.prompt_tokens < 32:  # noqa: PLR2004 - too short to tell
            return
        if prompt_bytes:
            self.learn(What.BYTES_PER_TOKEN, model, ANYWHERE, prompt_bytes / tally.prompt_tokens)
        if tally.prompt_s:
            self.learn(What.PREFILL_PER_S, model, kind, tally.prompt_tokens / tally.prompt_s)

    def saw_vram(self, model: str, vram_bytes: int) -> None:
        """`/api/ps` says that it takes this much."""
        name = (What.VRAM_BYTES, model, ANYWHERE)
        if name not in self.values or self.values[name].mean != vram_bytes:
            self.values[name] = Estimate(float(vram_bytes), 0.0, 1)

    def stored(self, models: Mapping[str, tuple[int, str | None]]) -> None:
        """The store has these: sizes and families. What is known of others is dropped."""
        self.files_bytes = {model: size for model, (size, _) in models.items() if size}
        self.families = {model: family for model, (_, family) in models.items() if family}
        kept = {*models, ANYWHERE}
        self.values = {name: value for name, value in self.values.items() if name[1] in kept}
        self.read_at_s = {model: at_s for model, at_s in self.read_at_s.items() if model in models}
        self._told &= models.keys()

    def tell_once(self, model: str) -> bool:
        """Whether this is the first time that something is to be said of a model."""
        if model in self._told:
            return False
        self._told.add(model)
        return True

    def _scale(self, what: What, model: str) -> float:
        relative = self.size_bytes(model) / GB
        if what in GROWS_WITH_SIZE:
            return SMOOTHED + relative
        return 1.0 / (SMOOTHED + relative) if what in SHRINKS_WITH_SIZE else 1.0
