from __future__ import annotations

from dataclasses import dataclass

from ollamad.sim.policy import GRAPH_BYTES, Load, choose_slot, load_for, needed_bytes, victim


@dataclass(frozen=True)
class Loaded:
    key: str
    keep_alive_ns: int
    busy: bool = False


def test_the_idle_model_with_the_shortest_keep_alive_goes_first() -> None:
    assert victim([Loaded("a", 300), Loaded("b", 5), Loaded("c", 1, busy=True)]) == Loaded("b", 5)


def test_where_none_is_idle_the_shortest_keep_alive_is_waited_for() -> None:
    assert victim([Loaded("a", 300, busy=True), Loaded("b", 5, busy=True)]) == Loaded("b", 5, busy=True)


def test_names_decide_between_equals_and_nothing_has_no_victim() -> None:
    assert victim([Loaded("b", 5), Loaded("a", 5)]) == Loaded("a", 5)
    assert victim(()) is None


def test_the_context_is_asked_for_limited_by_training_and_never_tiny() -> None:
    assert load_for({}, 2048, 8192).context == 2048
    assert load_for({"num_ctx": 100_000}, 2048, 8192).context == 8192
    assert load_for({"num_ctx": 1}, 2048, 8192).context == 4


def test_only_some_options_make_another_load() -> None:
    assert load_for({"temperature": 1.0, "num_predict": 5, "num_gpu": -1}, 2048, 0) == Load(2048)
    assert load_for({"num_gpu": 3}, 2048, 0) == Load(2048, (("num_gpu", 3),))


def test_each_slot_has_a_cache_of_its_own() -> None:
    assert needed_bytes(1000, 10, 100, 4) == 1000 + 4000 + GRAPH_BYTES


def test_the_slot_that_holds_most_of_the_prompt_is_chosen() -> None:
    assert choose_slot([0, 1], [(1, 2, 9), (1, 2, 3, 4)], (1, 2, 3, 4, 5)) == (1, 4)


def test_where_none_holds_much_the_least_recently_used_is_chosen() -> None:
    assert choose_slot([1, 0], [(1, *range(50, 99)), ()], (1, *range(20))) == (1, 0)
