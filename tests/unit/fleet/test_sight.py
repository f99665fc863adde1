from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamad.config.schema import Config, Ollama, Routing
from ollamad.fleet.bell import Bell
from ollamad.fleet.known import Known
from ollamad.fleet.plan import ChildPlan
from ollamad.fleet.sight import GPU_VIEW_S, Sight, Sources
from ollamad.gpu.model import Gpu
from ollamad.ollama.program import Stamp
from ollamad.routing.snapshot import ChildView, GpuView, LoadView, Resident
from ollamad.supervision.pinning import Pinning, Proof
from ollamad.supervision.state import ChildState, Phase, Want

GPU = Gpu(0, "GPU-0", "card", 1 << 34)
VIEW = GpuView(0, "GPU-0", "card", 1 << 34, 0, 0, 0, 40, 1.0, None)
NAMES = ("a", "b")
MODEL = Resident("m:latest", 1, 1, None)


@dataclass
class Here:
    """A child, as far as it is looked at."""

    plan: ChildPlan
    known: Known
    state: ChildState = field(default_factory=ChildState)


class World:
    """All that views are made of, to be changed by hand."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.config = Config()
        self.children = {name: Here(ChildPlan(name, (GPU,)), Known(Bell())) for name in NAMES}
        self.counts: dict[str, dict[str, int]] = {name: {} for name in NAMES}
        self.loads: dict[str, LoadView] = {}
        self.loaded: dict[str, tuple[Resident, ...]] = {}
        self.gpu = VIEW
        self.foreign: int | None = 0
        self.stale: Stamp | None = None

    def in_flight(self, child: str) -> int:
        return sum(self.counts[child].values())

    def busy(self, child: str) -> dict[str, int]:
        return self.counts[child]

    def load_on(self, child: str) -> LoadView | None:
        return self.loads.get(child)

    def residents(self, child: str, life: int, said: tuple[Resident, ...]) -> tuple[Resident, ...]:  # noqa: ARG002
        return self.loaded.get(child, said)

    def view(self, gpu: Gpu) -> GpuView:
        assert gpu == GPU
        return self.gpu

    def foreign_bytes(self, gpu: Gpu, ours: frozenset[int], said_bytes: int | None) -> int | None:  # noqa: ARG002
        return self.foreign

    def is_outdated(self, started: Stamp | None) -> bool:
        return started is not None and started == self.stale

    def sight(self) -> Sight:
        children: Any = self.children
        return Sight(Sources(self, self, self, self), children)


def set_config(world: World, name: str, number: int) -> None:
    ollama = Ollama(num_parallel=1 + number, max_loaded_models=1 + number, fit_margin_mib=number)
    weights = {name: 1.0 + number}
    world.config = msgspec.structs.replace(world.config, ollama=ollama, routing=Routing(weights=weights))


def set_state(world: World, name: str, number: int) -> None:
    child = world.children[name]
    phase = (Phase.READY, Phase.STARTING, Phase.DRAINING, Phase.BACKOFF)[number]
    child.state = replace(child.state, phase=phase, want=Want.UP if number else Want.DOWN, deaths=number)


def set_life(world: World, name: str, number: int) -> None:
    child = world.children[name]
    child.state = replace(child.state, life=child.state.life + 1)
    child.known = Known(Bell(), pid=number, port=number)


def set_trust(world: World, name: str, number: int) -> None:
    world.children[name].known.trust(trusted=number % 2 == 0)


def set_said(world: World, name: str, number: int) -> None:
    world.children[name].known.see((MODEL,) * number)


def set_facts(world: World, name: str, number: int) -> None:
    known = world.children[name].known
    known.version, known.pinning = str(number), Pinning((Proof.PROVEN, Proof.ON_CPU)[number % 2], str(number))


def set_loaded(world: World, name: str, number: int) -> None:
    world.loaded[name] = (replace(MODEL, shape=str(number)),)


def set_load(world: World, name: str, number: int) -> None:
    world.loads[name] = LoadView("m", str(number), 0.0)
    if not number:
        del world.loads[name]


def set_requests(world: World, name: str, number: int) -> None:
    world.counts[name] = {"m": number} if number else {}


def set_gpu(world: World, _name: str, number: int) -> None:
    world.gpu, world.foreign = replace(VIEW, memory_used_bytes=number), number
    world.now_s += 2 * GPU_VIEW_S


def set_program(world: World, name: str, number: int) -> None:
    stamp: Stamp | None = (number, number, number) if number else None
    world.children[name].known.program, world.stale = stamp, stamp if number % 2 else None


CHANGES = (
    set_config,
    set_state,
    set_life,
    set_trust,
    set_said,
    set_facts,
    set_loaded,
    set_load,
    set_requests,
    set_gpu,
    set_program,
)


def views(sight: Sight, world: World) -> tuple[ChildView, ...]:
    return sight.views(world.config, world.now_s)


@given(st.lists(st.tuples(st.sampled_from(CHANGES), st.sampled_from(NAMES), st.integers(0, 3))))
def test_whatever_changes_the_next_look_sees_what_one_that_remembers_nothing_sees(changes: list[Any]) -> None:
    world = World()
    sight = world.sight()
    for change, name, number in changes:
        change(world, name, number)
        assert views(sight, world) == views(world.sight(), world)


def test_a_child_is_never_shown_as_it_was_before_it_died() -> None:
    world = World()
    sight, child = world.sight(), world.children["a"]
    child.state, child.known.port = replace(child.state, phase=Phase.READY, want=Want.UP, life=1), 1
    child.known.trust(trusted=True)
    assert views(sight, world)[0].routable
    child.known.trust(trusted=False)
    assert not views(sight, world)[0].routable
    child.known.trust(trusted=True)
    child.known = Known(Bell())
    assert (views(sight, world)[0].routable, views(sight, world)[0].port) == (False, None)
    child.known.trust(trusted=True)
    child.state = replace(child.state, phase=Phase.BACKOFF)
    assert not views(sight, world)[0].routable


@pytest.mark.parametrize("name", NAMES)
def test_only_the_view_of_a_child_that_has_changed_is_made_anew(name: str) -> None:
    world = World()
    sight = world.sight()
    before = {view.id: view for view in views(sight, world)}
    set_requests(world, name, 1)
    after = {view.id: view for view in views(sight, world)}
    assert {other for other in NAMES if after[other] is before[other]} == {*NAMES} - {name}


def test_gpus_that_no_child_has_are_seen_too_with_what_is_foreign_there() -> None:
    world = World()
    assert world.sight().others((GPU,), world.now_s) == ()
    world.children = {"cpu0": Here(ChildPlan("cpu0"), Known(Bell()))}
    world.foreign = 7
    assert [view.foreign_bytes for view in world.sight().others((GPU,), world.now_s)] == [7]
