"""How long one decision takes: 16 children, 64 models, each child with four of them and a few requests in flight."""

from __future__ import annotations

import random
import statistics
import time

from ollamad.routing.decide import decide
from ollamad.routing.knowledge import What
from ollamad.routing.memory import Memory, Rules
from ollamad.routing.prefixes import prefix_of
from ollamad.routing.request import Need, Request
from ollamad.routing.snapshot import ChildView, GpuView, Resident, Snapshot
from ollamad.supervision.state import Phase, Want

CHILDREN, MODELS, RESIDENT, DECISIONS = 16, 64, 4, 20_000
HELD = 0.2
"""Share of the requests whose beginning each child with their model holds."""
GB = 1_000_000_000


def scene(seed: int) -> tuple[Snapshot, Memory, list[Request]]:
    """A fleet at work."""
    luck = random.Random(seed)
    memory = Memory(Rules())
    names = [f"model{index}:latest" for index in range(MODELS)]
    for name in names:
        memory.knowledge.files_bytes[name] = luck.randrange(1, 9) * GB
        memory.knowledge.learn(What.PREFILL_PER_S, name, "a GPU", 2000.0)
        memory.knowledge.learn(What.SERVICE_S, name, "a GPU", 4.0)
    text = luck.randbytes(8000)
    requests = [
        Request(Need.RUNNER, luck.choice(names), prompt_bytes=8000, prefix=prefix_of(text), client=f"client {index}")
        for index in range(256)
    ]
    children = tuple(_child(index, names, luck) for index in range(CHILDREN))
    for request in requests:
        memory.arrived(request, 1.0)
        for child in children:
            if any(held.model == request.model for held in child.residents) and luck.random() < HELD:
                memory.sent(request, child.id, 1, 4, 1.0)
    return Snapshot(2.0, children), memory, requests


def _child(index: int, names: list[str], luck: random.Random) -> ChildView:
    held = luck.sample(names, RESIDENT)
    busy = {name: luck.randrange(4) for name in held}
    gpu = GpuView(index, f"GPU-{index}", "a GPU", 48 * GB, 30 * GB, 18 * GB, 50, 60, 1.9, None)
    return ChildView(
        id=f"gpu{index}",
        want=Want.UP,
        phase=Phase.READY,
        trusted=True,
        in_flight=sum(busy.values()),
        slots=4,
        life=1,
        residents=tuple(Resident(name, 6 * GB, 6 * GB, None) for name in held),
        gpus=(gpu,),
        busy=busy,
        kind="a GPU",
        memory_bytes=47 * GB,
    )


def measure(seed: int = 1) -> tuple[float, float, float]:
    """Median and 99th percentile of a decision that finds a slot, and the median of one that finds none; in seconds."""
    snapshot, memory, requests = scene(seed)
    sends: list[float] = []
    others: list[float] = []
    for index in range(DECISIONS):
        request = requests[index % len(requests)]
        began = time.perf_counter()
        decision = decide(request, snapshot, memory, 0.5)
        took = time.perf_counter() - began
        (sends if decision.verdict.value == "send" else others).append(took)
    sends.sort()
    return statistics.median(sends), sends[int(0.99 * len(sends))], statistics.median(others) if others else 0.0
