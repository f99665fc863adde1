"""Fleets as routing sees them, for tests: one function a thing, and defaults that need no words."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ollamad.fleet.bell import Bell
from ollamad.fleet.dispatcher import Dispatcher, Limits
from ollamad.routing.decide import Need, Request, Work
from ollamad.routing.knowledge import What
from ollamad.routing.memory import Memory, ModelRule, Policy, Rules
from ollamad.routing.snapshot import ChildView, LoadView, Resident, Snapshot
from ollamad.supervision.state import Phase, Want

GB = 1_000_000_000
M = "m:latest"
RUN = Request(Need.RUNNER, M)
EMBED = Request(Need.RUNNER, M, work=Work.EMBED)
NOW_S = 1000.0


def child(  # noqa: PLR0913 - every fact of a child that a test may want to set
    name: str,
    *models: str,
    busy: int | Mapping[str, int] = 0,
    slots: int = 1,
    phase: Phase = Phase.READY,
    want: Want = Want.UP,
    trusted: bool = True,
    gb: float | None = None,
    load: LoadView | None = None,
    since_s: float = 0.0,
    kind: str = "cpu",
    shape: str = "",
    models_max: int = 3,
) -> ChildView:
    """`busy` alone is of the first model, or of M."""
    counts = {(models or (M,))[0]: busy} if isinstance(busy, int) else dict(busy)
    return ChildView(
        id=name,
        want=want,
        phase=phase,
        trusted=trusted,
        in_flight=sum(counts.values()),
        slots=slots,
        life=1,
        residents=tuple(Resident(model, None, None, None, shape=shape, since_s=since_s) for model in models),
        busy={model: count for model, count in counts.items() if count},
        load=load,
        kind=kind,
        memory_bytes=None if gb is None else int(gb * GB),
        models_max=models_max,
        port=1,
    )


def fleet(*children: ChildView, now_s: float = NOW_S) -> Snapshot:
    """A snapshot of these."""
    return Snapshot(now_s, children)


def memory(
    *,
    policy: Policy = Policy.COST,
    rules: Mapping[str, ModelRule] | None = None,
    load_s: float | None = None,
    service_s: float | None = None,
    gb: Mapping[str, float] | None = None,
    context_tokens: int = 1,
) -> Memory:
    """A memory that knows how long a load and a request take, if told."""
    made = Memory(Rules(policy=policy, models=rules or {}, context_tokens=context_tokens))
    for model, size in (gb or {}).items():
        made.knowledge.files_bytes[model] = int(size * GB)
    for model in {M, *(gb or {})}:
        if load_s is not None:
            made.knowledge.learn(What.LOAD_S, model, "cpu", load_s)
        if service_s is not None:
            made.knowledge.learn(What.SERVICE_S, model, "cpu", service_s)
    return made


class NoLoads:
    """For a dispatcher that is to send requests and nothing else."""

    def begin(self, child: ChildView, request: Request, evicts: tuple[str, ...]) -> None:
        raise AssertionError(f"a load on {child.id} of {request.model} in place of {evicts}")


def plain_dispatcher(changed: Bell, look: Callable[[], Snapshot]) -> Dispatcher:
    """One that sends each request to the least busy child at once."""
    return Dispatcher(changed, memory(policy=Policy.LEAST_INFLIGHT), look, Limits(10, 60.0, 60.0), NoLoads())
