from __future__ import annotations

import msgspec

from ollamad.routing.decide import Need, Request
from ollamad.routing.memory import Memory, ModelRule
from ollamad.routing.snapshot import LoadView, Resident
from ollamad.routing.upkeep import cold_copies, wanted_loads, worthwhile_load
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
