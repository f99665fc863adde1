"""One policy on one workload, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.routing.baselines import BASELINES, Balancer, Early
from bench.routing.bound import Clairvoyant
from bench.routing.child import Child
from bench.routing.clock import Clock
from bench.routing.ours import Ours
from bench.routing.parts import Asked
from bench.routing.workloads import Workload, trace
from ollamad.routing.memory import Policy
from ollamad.routing.request import Work

PATIENCE_S = 40_000.0
"""After the last arrival; who is not served by then never will be."""
BREAK_EVERY_S = 300.0


@dataclass(frozen=True, slots=True)
class Result:
    """What clients saw."""

    workload: str
    policy: str
    p50_s: float
    p95_s: float
    p99_s: float
    makespan_s: float
    loads: int
    goodput: float
    """Share of requests whose first token came within the objective."""
    failed: int
    tokens_per_s: float
    embed_p95_s: float
    gpus: int


def simulate(workload: Workload, policy: str, seed: int) -> Result:
    """Run it."""
    clock = Clock()
    children = [
        Child(f"gpu{index}", gpu, clock, slots=workload.slots, context_tokens=workload.context_tokens)
        for index, gpu in enumerate(workload.gpus)
    ]
    first = trace(workload, seed)
    balancer = _balancer(workload, policy, children, clock, seed, first)
    everything: list[Asked] = []

    def ask(asked: Asked) -> None:
        asked.asked_s = clock.now_s
        everything.append(asked)
        balancer.ask(asked, over)

    def over(asked: Asked) -> None:
        for after_s, following in asked.then:
            clock.at(clock.now_s + after_s, lambda following=following: ask(following))  # type: ignore[misc]

    for asked in first:
        clock.at(asked.asked_s, lambda asked=asked: ask(asked))  # type: ignore[misc]
    _break(workload, children[0], clock, first[-1].asked_s)
    clock.run(first[-1].asked_s + PATIENCE_S)
    return _result(workload, policy, everything, children)


def _balancer(
    workload: Workload, policy: str, children: Sequence[Child], clock: Clock, seed: int, first: Sequence[Asked]
) -> Balancer:
    if policy in BASELINES:
        return Early(BASELINES[policy], children, clock, seed)
    models = tuple({asked.model.name: asked.model for asked in first}.values())
    if policy == "clairvoyant":
        return Ours(
            children,
            clock,
            seed,
            models,
            context_tokens=workload.context_tokens,
            memory=lambda rules: Clairvoyant(rules, first, workload.gpus),
        )
    kind = Policy.COST if policy == "ollamad" else Policy(policy.removeprefix("ollamad "))
    return Ours(children, clock, seed, models, policy=kind, context_tokens=workload.context_tokens)


def _break(workload: Workload, child: Child, clock: Clock, until_s: float) -> None:
    """It fails for a share of every five minutes, and loses what it had loaded."""

    def breaks(*, broken: bool) -> Callable[[], None]:
        def act() -> None:
            child.broken = broken

        return act

    begins_s = BREAK_EVERY_S / 2
    while workload.broken and begins_s < until_s:
        clock.at(begins_s, breaks(broken=True))
        clock.at(begins_s + BREAK_EVERY_S * workload.broken, breaks(broken=False))
        begins_s += BREAK_EVERY_S


def _result(workload: Workload, policy: str, everything: Sequence[Asked], children: Sequence[Child]) -> Result:
    served = [asked for asked in everything if asked.done_s is not None]
    answers = [asked for asked in served if asked.work is Work.GENERATE]
    waits = sorted((asked.first_s or 0.0) - asked.asked_s for asked in answers)
    embeds = sorted((asked.done_s or 0.0) - asked.asked_s for asked in served if asked.work is Work.EMBED)
    asked_for = sum(asked.work is Work.GENERATE for asked in everything)
    makespan_s = max((asked.done_s or 0.0 for asked in served), default=0.0)
    return Result(
        workload.name,
        policy,
        percentile(waits, 0.5),
        percentile(waits, 0.95),
        percentile(waits, 0.99),
        makespan_s,
        sum(child.loads for child in children),
        sum(wait <= workload.objective_s for wait in waits) / max(1, asked_for),
        len(everything) - len(served),
        sum(asked.output_tokens for asked in answers) / max(1e-9, makespan_s),
        percentile(embeds, 0.95),
        len(children),
    )


def percentile(ordered: Sequence[float], share: float) -> float:
    """Of values in order."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")
