from __future__ import annotations

import msgspec
import pytest

from ollamad.routing.decide import Need, Request
from ollamad.routing.knowledge import What
from ollamad.routing.memory import REFUSED_S, Memory, ModelRule, Rules
from ollamad.routing.snapshot import LoadView, Resident, Snapshot
from ollamad.routing.upkeep import (
    COLD_S,
    RESTORE_IDLE_S,
    WantedLoad,
    WantedUnload,
    cold_copies,
    wanted_loads,
    worthwhile_load,
)
from ollamad.supervision.state import Phase
from tests.support.scene import NOW_S, RUN, M, child, fleet, memory


def asked_often(known: Memory, model: str, every_s: float = 1.0) -> None:
    for back in range(300, 0, -1):
        known.arrived(Request(Need.RUNNER, model), NOW_S - back * every_s)


def test_copies_that_the_operator_wants_are_loaded_on_as_many_children() -> None:
    known = memory(rules={M: ModelRule(min_replicas=2)})
    wanted = list(wanted_loads(fleet(child("a", M), child("b"), child("c")), known))
    assert [(load.child.id, load.model) for load in wanted] == [("b", M)]


def test_pinned_models_get_one_copy_each_on_children_of_their_own() -> None:
    known = memory(rules={"one": ModelRule(pin=True), "two": ModelRule(pin=True)})
    wanted = list(wanted_loads(fleet(child("a"), child("b")), known))
    assert {load.model for load in wanted} == {"one", "two"}
    assert len({load.child.id for load in wanted}) == 2


def test_what_is_not_there_or_was_just_refused_is_not_tried_every_second() -> None:
    rules = {M: ModelRule(min_replicas=1)}
    snapshot = fleet(child("a"), child("b"))
    assert list(wanted_loads(snapshot, memory(gb={"other": 8}, rules=rules))) == []
    known = memory(rules=rules)
    known.load_refused((M, ""), NOW_S - 1)
    assert list(wanted_loads(snapshot, known)) == []
    known.load_refused((M, ""), NOW_S - REFUSED_S)
    assert [load.model for load in wanted_loads(snapshot, known)] == [M]


def test_a_model_that_is_not_there_keeps_no_other_from_its_copy() -> None:
    known = memory(gb={M: 8}, rules={"absent": ModelRule(pin=True), M: ModelRule(pin=True)})
    assert [load.model for load in wanted_loads(fleet(child("a"), child("b")), known)] == [M]


def test_what_is_there_or_on_its_way_is_not_wanted_again() -> None:
    known = memory(rules={M: ModelRule(min_replicas=2)})
    snapshot = fleet(child("a", M), child("b", load=LoadView(M, "", NOW_S)), child("c"))
    assert list(wanted_loads(snapshot, known)) == []


def test_an_often_wanted_model_comes_back_in_place_of_a_rarely_wanted_one() -> None:
    known = memory(gb={M: 8, "rare": 8})
    asked_often(known, M)
    load = worthwhile_load(fleet(child("a", "rare", gb=12)), known)
    assert load is not None
    assert (load.child.id, load.model, load.evicts) == ("a", M, ("rare",))


def test_nothing_comes_back_for_a_model_in_use_or_while_anybody_waits_or_where_memory_is_unknown() -> None:
    known = memory(gb={M: 8, "rare": 8})
    asked_often(known, M)
    assert worthwhile_load(fleet(child("a", "rare", busy=1, gb=12)), known) is None
    assert worthwhile_load(fleet(child("a")), known) is None
    assert worthwhile_load(fleet(child("a", gb=12), child("b", gb=12, load=LoadView("x", "", NOW_S))), known) is None


def test_two_often_wanted_models_do_not_push_each_other_out() -> None:
    known = memory(gb={M: 8, "other": 8})
    asked_often(known, M)
    asked_often(known, "other")
    assert worthwhile_load(fleet(child("a", "other", gb=12)), known) is None


def test_a_busy_model_gets_a_copy_where_there_is_room_but_not_beyond_its_limit() -> None:
    known = memory(gb={M: 8}, service_s=3.0)
    asked_often(known, M)
    snapshot = fleet(child("a", M, gb=12), child("b", gb=12))
    load = worthwhile_load(snapshot, known)
    assert load is not None
    assert (load.child.id, load.evicts) == ("b", ())
    limited = memory(gb={M: 8}, service_s=3.0, rules={M: ModelRule(max_replicas=1)})
    asked_often(limited, M)
    assert worthwhile_load(snapshot, limited) is None


def test_a_copy_that_has_gone_cold_is_unloaded_but_never_the_last_nor_one_that_is_wanted() -> None:
    snapshot = fleet(child("a", M), child("b", M))
    assert [(cold.child.id, cold.model) for cold in cold_copies(snapshot, memory())] == [("a", M)]
    assert list(cold_copies(fleet(child("a", M)), memory())) == []
    assert list(cold_copies(snapshot, memory(rules={M: ModelRule(min_replicas=2)}))) == []


def test_a_copy_in_use_or_lately_used_stays() -> None:
    known = memory()
    known.sent(RUN, "a", 1, 1, NOW_S - 1)
    assert list(cold_copies(fleet(child("a", M), child("b", M, busy=1)), known)) == []


def test_a_model_evicted_moments_after_it_came_counts_for_more() -> None:
    fresh = Resident("x", None, None, None, since_s=NOW_S - 1)
    known = memory(gb={M: 8, "x": 8})
    asked_often(known, "x", 3.0)
    asked_often(known, M, 1.0)
    view = msgspec.structs.replace(child("a", gb=12), residents=(fresh,))
    assert worthwhile_load(fleet(view), known) is None


def where(snapshot: Snapshot, known: Memory | None = None) -> list[str]:
    """The children on which M, which is wanted twice, would be loaded."""
    known = known or memory(gb={M: 8})
    known.rules = Rules(models={M: ModelRule(min_replicas=2)}, context_tokens=1)
    return [load.child.id for load in wanted_loads(snapshot, known)]


def test_a_wanted_copy_goes_where_it_fits_and_only_then_where_it_spills_over() -> None:
    assert where(fleet(child("a", M), child("small", gb=6), child("fits", "x", gb=24))) == ["fits"]
    assert where(fleet(child("a", M), child("small", gb=4), child("larger", gb=6))) == ["larger"]
    assert where(fleet(child("a", M), child("small", gb=6))) == ["small"]
    known = memory(gb={M: 8, "x": 8}, rules={M: ModelRule(pin=True)})
    (load,) = wanted_loads(fleet(child("a", "x", gb=13.5)), known)
    assert load.evicts == ("x",)


def test_a_wanted_model_that_has_no_place_does_not_stand_in_the_way_of_the_next() -> None:
    known = memory(rules={"first": ModelRule(pin=True), "second": ModelRule(pin=True)})
    known.breakers.failed("a", 1, "first", NOW_S, weight=3)
    assert [load.model for load in wanted_loads(fleet(child("a")), known)] == ["second"]


def test_a_wanted_copy_goes_where_fewest_models_are_and_then_where_most_memory_is() -> None:
    assert where(fleet(child("a", M), child("b", "x", gb=99), child("c", gb=12), child("d", gb=24))) == ["d"]
    assert where(fleet(child("a", M), child("b", "x", "y", gb=99))) == ["b"], "never where it is already"


def test_a_wanted_copy_does_not_go_where_loading_it_failed_or_may_not_be_tried() -> None:
    known = memory(gb={M: 8})
    known.breakers.failed("b", 1, M, NOW_S, weight=3)
    assert where(fleet(child("a", M), child("b"), child("c", "x")), known) == ["c"]
    assert where(fleet(child("a", M), child("b")), known) == []
    assert where(fleet(child("a", M), child("b", phase=Phase.BACKOFF))) == []
    assert where(fleet(child("a", M), child("b", load=LoadView("x", "", NOW_S)))) == []


def test_of_two_that_are_missing_the_one_asked_for_more_comes_back() -> None:
    for often, rarely in (("one", "two"), ("two", "one")):
        for first, second in ((often, rarely), (rarely, often)):
            known = memory(gb={"one": 8, "two": 8})
            for model in (first, second):
                asked_often(known, model, 1.0 if model is often else 3.0)
            load = worthwhile_load(fleet(child("a", gb=12)), known)
            assert load is not None
            assert load.model == often


def restored(known: Memory, since_s: float | None = 0.0) -> WantedLoad | None:
    """M, which is asked for all the time, in the place of a model that fills the only child."""
    view = msgspec.structs.replace(child("a", gb=13.5), residents=(Resident("x", None, None, None, since_s=since_s),))
    return worthwhile_load(fleet(view), known)


def test_nothing_comes_back_in_place_of_what_was_used_a_moment_ago_or_has_just_come() -> None:
    known = memory(gb={M: 8, "x": 8})
    asked_often(known, M, 0.1)
    assert restored(known) is not None
    x = Request(Need.RUNNER, "x")
    known.arrived(x, NOW_S - 500.0)
    for used_s, comes in ((1.0, False), (RESTORE_IDLE_S - 0.1, False), (RESTORE_IDLE_S, True)):
        known.sent(x, "a", 1, 1, NOW_S - used_s)
        assert (restored(known) is not None) is comes
    assert restored(known, NOW_S - 1.0) is None


def test_nothing_comes_back_that_is_hardly_worth_its_load() -> None:
    for load_s, comes in ((0.2, False), (0.4, True)):
        known = memory(gb={M: 8}, load_s=load_s)
        asked_often(known, M)
        load = worthwhile_load(fleet(child("a", gb=12)), known)
        assert (load is not None) is comes


def spread(service_s: float, *residents: str, copies: int = 1, gb: float = 13.5) -> WantedLoad | None:
    """M is asked for once a second, and each request takes that long on its child of another kind than the others."""
    known = memory(gb={M: 8, "x": 8})
    asked_often(known, M)
    known.knowledge.learn(What.SERVICE_S, M, "fast", service_s)
    known.knowledge.learn(What.SERVICE_S, M, "cpu", 100.0 if service_s < 1 else 0.01)
    known.knowledge.learn(What.SERVICE_S, "x", "fast", 100.0 if service_s < 1 else 0.01)
    have = [child(f"has {number}", M, gb=12, kind="fast") for number in range(copies)]
    load = worthwhile_load(fleet(*have, child("free", *residents, gb=gb)), known)
    assert load is None or (load.child.id, load.model, load.evicts) == ("free", M, ())
    return load


def test_a_copy_more_comes_from_four_tenths_of_a_request_under_way_on_each() -> None:
    assert spread(0.3) is None
    assert spread(0.5) is not None
    assert spread(0.75, copies=2) is None
    assert spread(2.0, copies=2) is not None


def test_a_copy_more_never_takes_the_place_of_another_model() -> None:
    assert spread(3.0, "x") is None
    assert spread(3.0, "x", gb=24) is not None


def test_no_copy_is_looked_for_where_every_child_has_one() -> None:
    known = memory(gb={M: 8}, service_s=3.0)
    asked_often(known, M)
    assert worthwhile_load(fleet(child("a", M, gb=24), child("b", M, gb=24)), known) is None


def cold(known: Memory | None = None, *, since_s: float | None = 0.0, others: int = 1, phase: Phase = Phase.READY,
         busy: int = 0) -> bool:  # fmt: skip
    """Whether the first copy is unloaded: the others are in use."""
    first = child("a", M, busy=busy, kind="fast", since_s=0.0)
    first = msgspec.structs.replace(first, residents=(Resident(M, None, None, None, since_s=since_s),))
    rest = [child(f"b{number}", M, busy=1, phase=phase) for number in range(others)]
    found = list(cold_copies(fleet(first, *rest), known or memory()))
    assert found in ([], [WantedUnload(first, M)])
    return bool(found)


def test_a_copy_is_cold_a_minute_after_it_came_or_was_last_used() -> None:
    assert cold(since_s=None)
    for ago_s, is_cold in ((1.0, False), (COLD_S - 1, False), (COLD_S, True)):
        assert cold(since_s=NOW_S - ago_s) is is_cold
        known = memory()
        known.sent(RUN, "a", 1, 1, NOW_S - ago_s)
        assert cold(known) is is_cold
    assert not cold(busy=1)


def test_a_copy_is_not_cold_where_no_other_can_be_used() -> None:
    assert not cold(others=0)
    assert not cold(phase=Phase.BACKOFF)
    assert not cold(memory(rules={M: ModelRule(min_replicas=2)}))
    assert cold(memory(rules={M: ModelRule(min_replicas=2)}), others=2)


@pytest.mark.parametrize(("service_s", "others", "is_cold"), [(0.15, 1, True), (0.3, 1, False), (0.3, 2, True)])
def test_a_copy_is_not_cold_where_the_others_would_be_busy_without_it(
    service_s: float, others: int, *, is_cold: bool
) -> None:
    """Asked for once a second: with two tenths of a request under way on each of them."""
    known = memory()
    asked_often(known, M)
    known.knowledge.learn(What.SERVICE_S, M, "fast", service_s)
    for model, kind in ((M, "cpu"), ("x", "fast")):
        known.knowledge.learn(What.SERVICE_S, model, kind, 0.001 if not is_cold else 100.0)
    assert cold(known, others=others) is is_cold


def test_one_copy_of_each_model_goes_at_a_time() -> None:
    snapshot = fleet(child("a", M, "x"), child("b", M, "x"), child("c", M))
    found = [(unload.child.id, unload.model) for unload in cold_copies(snapshot, memory())]
    assert found == [("a", M), ("a", "x")]
