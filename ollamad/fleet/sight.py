"""Each child as routing sees it: made anew where something that it is made of has changed, and only there.

Nobody has to say that something has changed. Each look compares all that a view is made of with what it was made of
last time, which costs less than making it, and leaves nothing to forget: a view can't be older than the look.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Protocol

import msgspec

from ollamad.config.schema import Config
from ollamad.fleet.child import Child
from ollamad.fleet.routing import usable_bytes
from ollamad.gpu.model import Gpu
from ollamad.ollama.program import Stamp
from ollamad.routing.snapshot import ChildView, GpuView, LoadView, Resident

GPU_VIEW_S: Final = 0.2


class Requests(Protocol):
    """What is needed of the dispatcher."""

    def in_flight(self, child: str) -> int:
        """Requests that hold a lease on this child."""

    def busy(self, child: str) -> Mapping[str, int]:
        """The same, counted by model."""


class Loaded(Protocol):
    """What is needed of whoever loads and unloads."""

    def load_on(self, child: str) -> LoadView | None:
        """The load under way on a child."""

    def residents(self, child: str, life: int, said: tuple[Resident, ...]) -> tuple[Resident, ...]:
        """What it has loaded, where its `/api/ps` said this."""


class Gpus(Protocol):
    """What is needed of the devices."""

    def view(self, gpu: Gpu) -> GpuView:
        """A GPU with its latest sample."""

    def foreign_bytes(self, gpu: Gpu, ours: frozenset[int], said_bytes: int | None) -> int | None:
        """Memory of a GPU that is used by processes that are not ours."""


class Outdated(Protocol):
    """What is needed of the program."""

    def is_outdated(self, started: Stamp | None) -> bool:
        """Whether the program on disk is another than this one."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Whom to ask."""

    requests: Requests
    loaded: Loaded
    gpus: Gpus
    program: Outdated


class Sight:
    """Looks at children."""

    def __init__(self, sources: Sources, children: Mapping[str, Child]) -> None:
        self._sources = sources
        self._children = children
        self._views: dict[str, tuple[tuple[object, ...], ChildView]] = {}
        self._gpu_views: dict[str, tuple[float, GpuView]] = {}

    def views(self, config: Config, now_s: float) -> tuple[ChildView, ...]:
        """All children as they are now, without their streams: what costs as much on 5,000 as on one."""
        return tuple([self._view(child, config, now_s) for child in self._children.values()])

    def others(self, gpus: Iterable[Gpu], now_s: float) -> tuple[GpuView, ...]:
        """Those of these GPUs that have no child."""
        owned = {gpu.uuid for child in self._children.values() for gpu in child.plan.gpus}
        return tuple(self._gpu(gpu, now_s) for gpu in gpus if gpu.uuid not in owned)

    def forget(self, name: str) -> None:
        """Drop what is kept of a child that is no more."""
        self._views.pop(name, None)

    def _view(self, child: Child, config: Config, now_s: float) -> ChildView:
        name, state, known, sources = child.plan.id, child.state, child.known, self._sources
        plan_gpus = child.plan.gpus
        gpus = tuple([self._gpu(gpu, now_s) for gpu in plan_gpus]) if plan_gpus else ()
        residents = sources.loaded.residents(name, state.life, known.residents)
        load = sources.loaded.load_on(name)
        in_flight, busy = sources.requests.in_flight(name), sources.requests.busy(name)
        outdated = sources.program.is_outdated(known.program)
        told = (known.trusted, known.residents_at_s, known.pinning, known.pid, known.port, known.version)
        facts = (in_flight, state, gpus, residents, load, busy, outdated, config, *told)
        before = self._views.get(name)
        if before is not None and before[0] == facts:
            view = before[1]
        elif before is not None and before[0][1:] == facts[1:]:
            view = msgspec.structs.replace(before[1], in_flight=in_flight)
        else:
            ollama, weight = config.ollama, config.routing.weights.get(name, 1.0)
            view = ChildView(
                id=name,
                want=state.want,
                phase=state.phase,
                trusted=known.trusted,
                in_flight=in_flight,
                slots=ollama.num_parallel,
                life=state.life,
                residents=residents,
                residents_at_s=known.residents_at_s,
                gpus=gpus,
                pinning=known.pinning,
                pid=known.pid,
                port=known.port,
                version=known.version,
                ready_since_s=state.ready_since_s,
                deaths=state.deaths,
                failures=state.failures,
                reason=state.reason,
                quarantine=state.quarantine,
                next_s=state.deadline_s,
                outdated=outdated,
                busy=busy,
                load=load,
                kind=" + ".join(gpu.name for gpu in gpus) or "cpu",
                memory_bytes=usable_bytes(gpus, ollama.fit_margin_mib),
                models_max=ollama.max_loaded_models,
                weight=weight,
            )
        self._views[name] = (facts, view)  # the newest facts: what is the same object is compared in no time
        return view

    def _gpu(self, gpu: Gpu, now_s: float) -> GpuView:
        """A GPU with its latest sample, and what of its memory is neither free nor ours.

        Worked out again a few times a second at most: a snapshot is taken for each request, a sample once a second.
        """
        before = self._gpu_views.get(gpu.uuid)
        if before is not None and now_s - before[0] <= GPU_VIEW_S:
            return before[1]
        view = self._gpu_now(gpu)
        self._gpu_views[gpu.uuid] = (now_s, view)
        return view

    def _gpu_now(self, gpu: Gpu) -> GpuView:
        ours = frozenset[int]().union(*(child.known.members for child in self._children.values()))
        ours |= {child.known.pid for child in self._children.values() if child.known.pid is not None}
        mine = [child for child in self._children.values() if gpu in child.plan.gpus]
        alone = all(len(child.plan.gpus) == 1 for child in mine)  # a wide child does not say what is where
        said = [child.known.vram_bytes for child in mine] if alone else [None]
        said_bytes = None if None in said else sum(size for size in said if size is not None)
        gpus = self._sources.gpus
        return replace(gpus.view(gpu), foreign_bytes=gpus.foreign_bytes(gpu, ours, said_bytes))
