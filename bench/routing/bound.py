"""What no scheduler can beat, and what one could do that knew the future.

The relaxation: every request alone on the fastest GPU, its model there already, with all that its chat or system
prompt shares in a slot. No scheduler can answer sooner, and none comes near it where models must be loaded.

The clairvoyant: the same scheduler with a memory that knows when each model is asked for next, and how long
answers are. It evicts what is needed last (as Belady's rule does) and knows every load and service time from the
start; it does not load ahead of a request, and is greedy, so that it is no bound in the strict sense.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from bench.routing.parts import Asked, GpuKind, Model
from bench.routing.workloads import Workload
from ollamad.routing.knowledge import What
from ollamad.routing.memory import Memory, Rules


def relaxation_s(workload: Workload, asked: Sequence[Asked]) -> list[float]:
    """Each request's least possible time to first token, in order of size."""
    found = []
    for one in asked:
        seen: Asked | None = None
        at: Asked | None = one
        while at is not None:
            if at.output_tokens:
                shared = at.shared_tokens(seen) if seen else min(at.system_tokens, at.prompt_tokens - 1)
                new = max(1, at.prompt_tokens - shared)
                found.append(min(new / gpu.prefill_per_s(at.model) for gpu in workload.gpus))
            seen, at = at, at.then[0][1] if at.then else None
    return sorted(found)


class Clairvoyant(Memory):
    """A memory that has read the whole trace."""

    def __init__(self, rules: Rules, trace: Sequence[Asked], gpus: Sequence[GpuKind]) -> None:
        super().__init__(rules)
        self._times: dict[str, list[float]] = {}
        for asked in trace:
            self._times.setdefault(asked.model.name, []).append(asked.asked_s)
        models: dict[str, Model] = {asked.model.name: asked.model for asked in trace}
        for model in models.values():
            for gpu in gpus:
                self.knowledge.learn(What.LOAD_S, model.name, gpu.name, gpu.load_s(model))
                self.knowledge.learn(What.LOAD_COLD_S, model.name, gpu.name, gpu.load_s(model))

    def model_demand_per_s(self, model: str, now_s: float) -> float:
        """One request by the time that the next one comes."""
        times = self._times.get(model, [])
        position = bisect_right(times, now_s)
        return 1.0 / (times[position] - now_s + 0.5) if position < len(times) else 0.0
