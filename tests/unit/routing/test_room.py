"""What would have to go for a model, in which order, and what that costs whom."""

from __future__ import annotations

from math import exp

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamad.routing.decide import Need, Request
from ollamad.routing.knowledge import RUNNER_BYTES, What
from ollamad.routing.memory import Line, Memory, ModelRule
from ollamad.routing.room import Room, crowd, harm_of, is_too_large, make_room, needed_bytes, worth_of
from ollamad.routing.snapshot import ChildView, Resident
from ollamad.supervision.state import Phase
from tests.support.scene import GB, NOW_S, M, child, fleet, memory


def learned(**rules: ModelRule) -> Memory:
    """M, x and y load in 4, 8 and 16 s and answer in 1, 3 and 6 s; of other kinds and models nothing is known."""
    known = memory(rules=rules)
    for model, load_s, service_s in ((M, 4.0, 1.0), ("x", 8.0, 3.0), ("y", 16.0, 6.0)):
        known.knowledge.learn(What.LOAD_S, model, "fast", load_s)
        known.knowledge.learn(What.LOAD_COLD_S, model, "fast", 10 * load_s)
        known.knowledge.learn(What.SERVICE_S, model, "fast", service_s)
        known.knowledge.read_at_s[model] = NOW_S - 10
        known.knowledge.saw_vram(model, 8 * GB)
    return known


def asked(known: Memory, model: str, times: int) -> float:
    """Ask for it once a second; gives the rate that is remembered."""
    for back in range(times):
        known.arrived(Request(Need.RUNNER, model), NOW_S - times + back)
    return known.model_demand_per_s(model, NOW_S)


def room(view: ChildView, known: Memory, model: str = M) -> Room | None:
    return make_room(model, view, fleet(view), known)


def holding(*residents: Resident, gb: float | None = None, models_max: int = 9, busy: dict[str, int] | None = None,
            slots: int = 1) -> ChildView:  # fmt: skip
    view = child("a", gb=gb, models_max=models_max, busy=busy or {}, slots=slots, kind="fast")
    return msgspec.structs.replace(view, residents=residents)


def resident(model: str, vram_gb: float | None = None, *, shape: str = "", since_s: float | None = 0.0) -> Resident:
    vram = None if vram_gb is None else int(vram_gb * GB)
    return Resident(model, vram, vram, None, shape=shape, since_s=since_s)


def test_a_model_needs_its_weights_and_the_cache_of_all_its_slots_unless_it_has_but_one() -> None:
    known = memory(gb={M: 8}, context_tokens=1000)
    assert needed_bytes(M, child("a", slots=4), known) == known.knowledge.vram_bytes(M, 4000)
    known.knowledge.families[M] = "bert"
    assert needed_bytes(M, child("a", slots=4), known) == known.knowledge.vram_bytes(M, 1000)


def test_what_fits_exactly_fits() -> None:
    known = learned()
    view = msgspec.structs.replace(holding(), memory_bytes=8 * GB + RUNNER_BYTES)
    assert room(view, known) == Room()
    assert not is_too_large(M, view, known)
    assert is_too_large(M, msgspec.structs.replace(view, memory_bytes=8 * GB + RUNNER_BYTES - 1), known)
    both = msgspec.structs.replace(view, residents=(resident("x", 8),), memory_bytes=2 * (8 * GB + RUNNER_BYTES))
    assert room(both, known) == Room()


def test_a_model_in_another_shape_makes_room_for_itself_first() -> None:
    for own in (resident(M, 4, shape="other"), resident(M, shape="other")):
        found = room(holding(own, resident("x", 10), gb=20), learned())
        assert found is not None
        assert found.evicts == (M,)


def test_a_resident_whose_memory_is_not_told_counts_as_what_it_is_known_to_need() -> None:
    known = learned()
    known.knowledge.saw_vram("x", 2 * GB)
    for size_gb, evicts in ((8.4 + 2.4, ()), (8.3 + 2.4, ("x",))):
        found = room(holding(resident("x"), gb=size_gb), known)
        assert found is not None
        assert found.evicts == evicts


def test_the_least_harmful_go_first_and_no_more_than_must() -> None:
    known = learned()
    asked(known, "x", 60)
    everybody = (resident("x", 4), resident("y", 4), resident("z", 4))
    for size_gb, evicts in ((22, ()), (17.5, ("y",)), (13.1, ("y", "z")), (9, ("y", "z", "x"))):
        found = room(holding(*everybody, gb=size_gb), known)
        assert found is not None
        assert found.evicts == evicts


@pytest.mark.parametrize(("models_max", "evicts"), [(3, ()), (2, ("y",)), (1, ("y", "x"))])
def test_without_a_word_on_memory_a_child_holds_as_many_models_as_ollama_does(
    models_max: int, evicts: tuple[str, ...]
) -> None:
    known = learned()
    asked(known, "x", 60)
    found = room(holding(resident("x"), resident("y"), models_max=models_max), known)
    assert found is not None
    assert found.evicts == evicts


def test_a_model_that_is_too_large_gets_the_child_to_itself_or_not_at_all() -> None:
    view = holding(resident("x", 2, since_s=None), gb=6, busy={"x": 1})
    assert room(view, learned()) == Room(("x",), 0.0, 3.5, held=False)
    assert room(view, learned(x=ModelRule(pin=True))) is None


def test_what_must_go_is_given_time_to_end_and_half_a_second_each() -> None:
    """Two requests of 6 s end after 9 s on average, four of 3 s after 6.25."""
    view = holding(resident("x", 4), resident("y", 4), gb=9, busy={"x": 4, "y": 2})
    assert room(view, learned()) == Room(("x", "y"), 0.0, 9.0 + 2 * 0.5, held=False)
    assert room(holding(resident("x"), models_max=1, busy={"y": 2}), learned()) == Room(("x",), 0.0, 0.5)


@pytest.mark.parametrize(
    ("since_s", "is_asked", "held"),
    [(NOW_S - 15, True, True), (NOW_S - 16, True, False), (NOW_S - 15, False, False), (None, True, False)],
)
def test_a_model_is_held_for_twice_the_time_of_its_load_if_it_is_used(
    since_s: float | None, *, is_asked: bool, held: bool
) -> None:
    known = learned()
    if is_asked:
        asked(known, "x", 1)
    view = holding(resident("x", since_s=since_s), models_max=1)
    found = room(view, known)
    assert found is not None
    assert found.held is held


def test_one_that_is_held_holds_all_that_must_go() -> None:
    known = learned()
    for model in "xy":
        asked(known, model, 1)
    for fresh in "xy":
        both = (resident(name, since_s=NOW_S - 1 if name == fresh else 0.0) for name in "xy")
        found = room(holding(*both, models_max=1), known)
        assert found is not None
        assert found.held


def test_a_model_is_worth_the_load_that_those_in_line_would_wait_for_and_more_the_more_it_is_asked_for() -> None:
    known, view = learned(), holding()
    known.lines["x", "shape"] = Line(3, 1.0)
    assert worth_of("x", "shape", view, fleet(view), known) == 2.0 * 3 * 8.0
    assert worth_of("x", "", view, fleet(view), known) == 0.0
    per_s = asked(known, "x", 5)
    soon = 1.0 - exp(-10.0 * per_s)
    assert 0.5 < soon < 1.0
    assert worth_of("x", "", view, fleet(view), known) == pytest.approx(2.0 * soon * 8.0 * (1.0 + 8.0 * per_s))


def test_what_a_model_is_worth_is_worked_out_once_for_a_snapshot() -> None:
    known, view = learned(), holding()
    snapshot = fleet(view)
    before_s = worth_of("x", "", view, snapshot, known)
    known.lines["x", ""] = Line(3, 1.0)
    assert worth_of("x", "", view, snapshot, known) == before_s
    assert worth_of("x", "", view, fleet(view), known) > before_s


def test_losing_one_of_several_copies_harms_as_far_as_the_others_are_busy() -> None:
    known = learned()
    per_s = asked(known, "x", 5)
    copy = holding(resident("x", shape="shape"), slots=2)
    known.lines["x", "shape"] = Line(1, 1.0)
    worth_s = worth_of("x", "shape", copy, fleet(copy), known)
    for copies, share in ((1, 1.0), (2, 3.0 * per_s / 2), (3, 3.0 * per_s / 4)):
        harm_s = harm_of(copy.residents[0], copy, fleet(*[copy] * copies), known)
        assert harm_s == pytest.approx(worth_s * share**2)
    known.knowledge.families["x"] = "bert"
    one_slot_s = harm_of(copy.residents[0], copy, fleet(copy, copy), known)
    assert one_slot_s == pytest.approx(worth_s * (3.0 * per_s) ** 2)
    assert asked(known, "x", 300) * 3.0 > 1.0
    assert harm_of(copy.residents[0], copy, fleet(copy, copy), known) <= worth_of(
        "x", "shape", copy, fleet(copy), known
    )


def test_copies_are_counted_on_children_that_can_be_used() -> None:
    snapshot = fleet(child("a", M, "x"), child("b", M), child("c", M, phase=Phase.BACKOFF), child("d"))
    assert [snapshot.copies(model) for model in (M, "x", "nowhere")] == [2, 1, 0]
    assert [snapshot.copies(model) for model in (M, "x", "nowhere")] == [2, 1, 0], "a second time too"


def test_company_counts_a_little_for_each_model_and_more_for_what_is_asked_of_it() -> None:
    known = learned()
    per_s = asked(known, "x", 60)
    view = holding(resident("x"), resident("y"), resident("gone"))
    one = fleet(view)
    assert crowd(view, ("gone",), one, known) == pytest.approx(2 * 0.2 + 2.0 * per_s * 3.0)
    assert crowd(view, ("gone", "x"), one, known) == pytest.approx(0.2)
    assert crowd(view, ("x", "y", "gone"), one, known) == 0.0
    two = fleet(view, replace_id(view))
    assert crowd(view, ("gone", "y"), two, known) == pytest.approx(0.2 + 2.0 * per_s / 2 * 3.0)


def replace_id(view: ChildView) -> ChildView:
    return msgspec.structs.replace(view, id="b")


SIZES = st.lists(st.tuples(st.sampled_from(["x", "y", "z"]), st.floats(0.5, 10)), unique_by=lambda one: one[0])


@given(SIZES, st.floats(9, 40), st.sets(st.sampled_from(["x", "y", "z"])))
def test_room_is_made_without_pinned_models_and_no_eviction_is_idle(
    sizes: list[tuple[str, float]], gb: float, pinned: set[str]
) -> None:
    known = learned(**{model: ModelRule(pin=True) for model in pinned})
    view = holding(*(resident(model, size) for model, size in sizes), gb=gb)
    found = room(view, known)
    left = {model: size + 0.4 for model, size in sizes if found is None or model not in found.evicts}
    if found is None:
        assert sum(left[model] for model in left if model in pinned) + 8.4 > gb, "pinned ones alone leave no room"
        return
    assert not pinned & set(found.evicts)
    assert sum(left.values()) + 8.4 <= gb + 1e-6
    if found.evicts:
        last = dict(sizes)[found.evicts[-1]] + 0.4
        assert sum(left.values()) + last + 8.4 > gb - 1e-6
