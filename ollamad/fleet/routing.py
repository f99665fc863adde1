"""What routing remembers, fed with what happens: the one writer of learned values, and of the file that keeps them."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ollamad.config.schema import Config
from ollamad.fleet.dispatcher import Lease, Limits
from ollamad.fleet.learned import SAVE_S, keep, recall, state_file, written
from ollamad.ollama.names import canonical
from ollamad.ollama.tally import tally_of
from ollamad.routing.decide import Decision, Need, Request, Work, decide
from ollamad.routing.knowledge import Tally, What
from ollamad.routing.memory import Memory, ModelRule, Policy, Rules
from ollamad.routing.snapshot import GpuView, Snapshot

MIB: Final = 1024 * 1024
STALE_PERIODS: Final = 3.0
"""A sample older than this many sampling intervals says nothing."""


class Routing:
    """Learns, and keeps what was learned."""

    def __init__(self, config: Config, context_tokens: int) -> None:
        self.memory = Memory(rules_of(config, context_tokens))
        self._file = state_file(config.routing.state_dir, os.environ, str(Path.home()))
        if self._file is not None:
            recall(self._file, self.memory.knowledge)

    def configure(self, config: Config, context_tokens: int) -> None:
        """From now on go by this configuration; where learned values are kept does not change."""
        self.memory.rules = rules_of(config, context_tokens)

    async def run(self) -> None:
        """Write down what was learned, now and then, and at the end."""
        file = self._file
        if file is None:
            return
        kept = written(self.memory.knowledge)
        try:
            while True:
                await asyncio.sleep(SAVE_S)
                text = written(self.memory.knowledge)
                if text != kept:
                    await asyncio.to_thread(keep, file, text)
                    kept = text
        finally:
            text = written(self.memory.knowledge)
            if text != kept:
                keep(file, text)  # the loop is about to end: nothing is left that this could hold up

    def failed(self, lease: Lease) -> None:
        """A request failed by the child's fault."""
        lease.judged = True
        if lease.model is not None:
            self.memory.breakers.failed(lease.child, lease.life, lease.model, time.monotonic())

    def answered(self, lease: Lease) -> None:
        """A good answer has begun."""
        lease.judged = True
        if lease.model is not None:
            self.memory.breakers.succeeded(lease.child, lease.life, lease.model)
            self.memory.load_worked((lease.model, lease.request.shape))

    def served(self, lease: Lease, tail: bytes) -> Tally | None:
        """A good answer is whole; gives what its child counted, where a runner made it."""
        if lease.model is None:
            return None
        knowledge, request = self.memory.knowledge, lease.request
        tally = tally_of(tail)
        knowledge.answered(lease.model, lease.kind, tally, request.prompt_bytes, cached=lease.cached)
        loaded_s = tally.load_s or 0.0  # a load that was not foreseen is no part of serving
        took_s = time.monotonic() - lease.since_s - loaded_s
        what = What.EMBED_S if request.work is Work.EMBED else What.SERVICE_S
        knowledge.learn(what, lease.model, lease.kind, took_s)
        return tally

    def explain(self, model: str, snapshot: Snapshot) -> Decision:
        """What would be decided now on a request for this model."""
        request = Request(Need.RUNNER, canonical(model))
        return decide(request, snapshot, self.memory, 0.0, thorough=True)


def rules_of(config: Config, context_tokens: int) -> Rules:
    """How to route, as configured."""
    settings = config.routing
    preloaded = {canonical(name): ModelRule(pin=True) for name in config.models.preload}
    models = preloaded | {
        (model := canonical(name)): ModelRule(one.pin or model in preloaded, one.min_replicas, one.max_replicas or None)
        for name, one in settings.models.items()
    }
    return Rules(
        policy=Policy(settings.policy),
        models=models,
        context_tokens=context_tokens,
        affinity_slack=settings.affinity_slack,
        stale_s=STALE_PERIODS * config.gpus.sample_interval_s,
    )


def limits_of(config: Config) -> Limits:
    """How long a request may wait, and how many."""
    return Limits(config.proxy.waiting_max, config.proxy.ready_wait_s, config.routing.wait_max_s)


def usable_bytes(gpus: Sequence[GpuView], margin_mib: int) -> int | None:
    """VRAM that models may use on these GPUs together; None where there is none, or a driver does not say."""
    totals = [gpu.memory_total_bytes for gpu in gpus]
    if not totals or None in totals:
        return None
    foreign = sum(gpu.foreign_bytes or 0 for gpu in gpus)
    return max(0, sum(total for total in totals if total is not None) - foreign - margin_mib * MIB * len(gpus))
