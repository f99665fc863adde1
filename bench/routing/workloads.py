"""What is asked: named sets of parameters, each with where its figures come from.

Lengths are log-normal with the published median or mean; arrivals are Poisson, or a renewal process with
Gamma-distributed gaps (shape 0.5: bursty, a coefficient of variation of 1.4).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import exp, log

from bench.routing.parts import GB, Asked, GpuKind, Model
from ollamad.routing.request import Work

CARD = GpuKind()
BIG = GpuKind(name="48 GB", memory_bytes=48 * GB, bandwidth=7.5e11, prefill_work=2.9e13)
"""Decoding and reading prompts as an RTX 4090 does (the same sources), with twice the memory."""

EIGHT = Model("eight", int(4.9 * GB))
EMBEDDER = Model("embedder", int(0.3 * GB), embeds=True)
FITTING = tuple(
    Model(f"fits{index}", int(size * GB))
    for index, size in enumerate((4.9, 7.6, 4.7, 5.2, 8.5, 4.9, 2.0, 6.6, 4.4, 4.1))
)
"""Ten of 3 to 14 billion weights: with their caches they fill four cards of 24 GB to five sixths."""
CROWDED = tuple(
    Model(f"many{index}", int(size * GB))
    for index, size in enumerate((4.9, 2.0, 9.0, 13.0, 4.7, 14.0, 8.1, 3.3, 12.0, 1.3, 14.0, 13.0))
)
"""Twelve, for which four cards of 24 GB have room by half (slots of 8192 tokens)."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """Tokens of prompts and answers."""

    prompt_median: float
    prompt_spread: float
    """Sigma of the logarithm."""
    output_median: float
    output_spread: float
    prompt_max: int = 3500

    def prompt(self, luck: random.Random) -> int:
        """One prompt's."""
        return max(4, min(self.prompt_max, round(_log_normal(luck, self.prompt_median, self.prompt_spread))))

    def output(self, luck: random.Random) -> int:
        """One answer's."""
        return max(2, min(1500, round(_log_normal(luck, self.output_median, self.output_spread))))


CONVERSATION = Lengths(1020, 0.9, 129, 0.9)
"""Azure's trace of LLM inference, 2023, conversation: medians as told in Splitwise (Patel et al., ISCA 2024)."""
CODE = Lengths(1500, 0.7, 13, 0.8)
"""The same, code."""
CHAT_SHORT = Lengths(161 / exp(0.8**2 / 2), 0.8, 338 / exp(0.8**2 / 2), 0.8)
"""ShareGPT as used for vLLM (Kwon et al., SOSP 2023): means of 161 and 338."""
INSTRUCT = Lengths(19 / exp(0.5**2 / 2), 0.5, 58 / exp(0.8**2 / 2), 0.8)
"""Alpaca, same paper: means of 19 and 58."""


@dataclass(frozen=True, slots=True)
class Workload:
    """One scene: GPUs, models, and what is asked of them."""

    name: str
    rate_per_s: float
    requests: int
    models: tuple[Model, ...]
    lengths: Lengths = CONVERSATION
    zipf: float = 1.0
    shape: float = 1.0
    """Of the Gamma distribution of gaps; 1 is Poisson."""
    gpus: tuple[GpuKind, ...] = (CARD,) * 4
    slots: int = 4
    context_tokens: int = 4096
    objective_s: float = 10.0
    """Time to first token that counts as good."""
    turns: bool = False
    """Sessions of 3 to 6 turns with 5 to 30 s of thought between, each sending all that was said."""
    system_tokens: int = 0
    """A system prompt that all requests for a model share."""
    embeddings_per_s: float = 0.0
    clients: int = 40
    broken: float = 0.0
    """Share of the time that the first child fails at once."""
    source: str = ""

    def at(self, rate_per_s: float) -> Workload:
        """The same at another rate."""
        return replace(self, name=f"{self.name} {rate_per_s:g}/s", rate_per_s=rate_per_s)

    def quick(self) -> Workload:
        """A fifth of it."""
        return replace(self, requests=max(200, self.requests // 5))


def trace(workload: Workload, seed: int) -> list[Asked]:
    """All requests that do not wait for an earlier one's end, in the order of their times."""
    luck = random.Random(f"{seed} {workload.name}")
    numbers = _Numbers()
    found: list[Asked] = []
    now_s = 0.0
    weights = [1 / (rank + 1) ** workload.zipf for rank in range(len(workload.models))]
    sessions = workload.requests // (4 if workload.turns else 1)
    per_s = workload.rate_per_s / (4.5 if workload.turns else 1)
    for _ in range(sessions):
        now_s += luck.gammavariate(workload.shape, 1 / (workload.shape * per_s))
        model = luck.choices(workload.models, weights)[0]
        first = _session(workload, model, luck, numbers) if workload.turns else _single(workload, model, luck, numbers)
        first.asked_s = now_s
        found.append(first)
    found += _embeddings(workload, now_s, luck, numbers)
    return sorted(found, key=lambda asked: asked.asked_s)


class _Numbers:
    def __init__(self) -> None:
        self._last = 0

    def next(self) -> int:
        self._last += 1
        return self._last


def _single(workload: Workload, model: Model, luck: random.Random, numbers: _Numbers) -> Asked:
    system = workload.system_tokens
    prompt = workload.lengths.prompt(luck) + system
    client = f"client {luck.randrange(workload.clients)}"
    rank = workload.models.index(model) if system else -1
    return Asked(numbers.next(), model, prompt, workload.lengths.output(luck), client, -1, rank, system)


def _session(workload: Workload, model: Model, luck: random.Random, numbers: _Numbers) -> Asked:
    chat = numbers.next()
    history = max(50, workload.lengths.prompt(luck) // 4)
    turns: list[Asked] = []
    for _ in range(luck.randint(3, 6)):
        output = luck.randint(100, 300)
        turns.append(Asked(numbers.next(), model, min(history, 3500), output, f"client {chat % 40}", chat))
        history += output + luck.randint(20, 200)
    for one, after in pairwise(turns):
        one.then = [(luck.uniform(5, 30), after)]
    return turns[0]


def _embeddings(workload: Workload, until_s: float, luck: random.Random, numbers: _Numbers) -> list[Asked]:
    """Batches of 1 to 64 texts of 50 to 500 tokens."""
    found = []
    now_s = 0.0
    while workload.embeddings_per_s and now_s < until_s:
        now_s += luck.expovariate(workload.embeddings_per_s)
        tokens = sum(luck.randint(50, 500) for _ in range(luck.choice((1, 1, 4, 16, 64))))
        asked = Asked(numbers.next(), EMBEDDER, tokens, 0, "an indexer", work=Work.EMBED)
        asked.asked_s = now_s
        found.append(asked)
    return found


def _log_normal(luck: random.Random, median: float, sigma: float) -> float:
    return luck.lognormvariate(log(median), sigma)


def _steps(workload: Workload, rates: Sequence[float]) -> list[Workload]:
    return [workload.at(rate) for rate in rates]


BURSTY = 0.5
FIT = Workload("all fit", 1.0, 3000, FITTING, shape=BURSTY, source="own mix, Zipf 1.0 as in AlpaServe (OSDI 2023)")
HALF = Workload(
    "half fit",
    0.4,
    3000,
    CROWDED,
    shape=BURSTY,
    objective_s=15.0,
    context_tokens=8192,
    source="the same, VRAM for half",
)

WORKLOADS: dict[str, Callable[[], list[Workload]]] = {
    "fit": lambda: _steps(FIT, (0.5, 1.0, 2.0)),
    "half": lambda: _steps(HALF, (0.1, 0.2, 0.4, 0.6)),
    "one": lambda: [
        Workload("one model, saturated", 12.0, 3000, (EIGHT,), CHAT_SHORT, clients=1, source="ShareGPT, vLLM")
    ],
    "conversation": lambda: [
        Workload("conversation", 1.5, 3000, (EIGHT,), shape=BURSTY, source="Azure 2023, Splitwise")
    ],
    "code": lambda: [
        Workload("code, shared system", 4.0, 4000, FITTING[:3], CODE, system_tokens=1000, source="Azure 2023 code")
    ],
    "instruct": lambda: [Workload("instruct", 10.0, 4000, FITTING[:4], INSTRUCT, source="Alpaca, vLLM")],
    "turns": lambda: [Workload("multi-turn", 1.5, 3000, FITTING[:4], turns=True, source="own, stated in ROUTING")],
    "embeddings": lambda: [
        Workload(
            "embeddings beside", 0.8, 2500, (*FITTING[:4],), embeddings_per_s=3.0, source="own, beside conversation"
        )
    ],
    "hetero": lambda: [replace(HALF, name="two big two small", gpus=(BIG, BIG, CARD, CARD), rate_per_s=0.6)],
    "failing": lambda: [
        Workload("one fails a tenth", 1.0, 3000, (EIGHT,), broken=0.1, shape=BURSTY, source="conversation, own fault")
    ],
}
