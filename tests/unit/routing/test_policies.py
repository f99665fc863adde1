"""The policies that look at no cost, by whom they choose."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamad.routing.decide import Request, decide
from ollamad.routing.memory import Memory, Policy
from ollamad.routing.snapshot import ChildView
from tests.support.scene import NOW_S, RUN, child, fleet, memory

FOUR = tuple(child(name) for name in "abcd")
MODELS = st.lists(st.text(max_size=8), min_size=1, max_size=20, unique=True)


def choice(policy: Policy, *children: ChildView, request: Request = RUN, luck: float = 0.0,
           known: Memory | None = None) -> str:  # fmt: skip
    known = known or memory()
    known.rules = replace(known.rules, policy=policy)
    return str(decide(request, fleet(*children), known, luck).child)


def test_the_fewest_in_flight_for_its_weight_and_among_equals_by_luck() -> None:
    strong = msgspec.structs.replace(child("strong", busy=3), weight=4.0)
    assert choice(Policy.LEAST_INFLIGHT, child("weak", busy=1), strong) == "strong"
    weak = msgspec.structs.replace(child("weak", busy=1), weight=0.25)
    assert choice(Policy.LEAST_INFLIGHT, weak, child("plain", busy=3)) == "plain"
    equal = (child("busy", busy=2), *FOUR)
    found = [choice(Policy.LEAST_INFLIGHT, *equal, luck=luck) for luck in (0.0, 0.3, 0.6, 0.99)]
    assert found == ["a", "b", "c", "d"]


def test_chance_reaches_every_child() -> None:
    assert [choice(Policy.RANDOM, *FOUR, luck=luck) for luck in (0.0, 0.25, 0.5, 0.99)] == ["a", "b", "c", "d"]


def test_each_in_turn_and_then_from_the_start() -> None:
    known, found = memory(), []
    for _ in range(6):
        found.append(choice(Policy.ROUND_ROBIN, *FOUR, known=known))
        known.sent(RUN, found[-1], 1, 1, NOW_S)
    assert found == ["a", "b", "c", "d", "a", "b"]


@given(MODELS, st.sampled_from("abcd"))
def test_a_child_that_goes_moves_only_its_own_models(models: list[str], gone: str) -> None:
    for model in models:
        request = replace(RUN, model=model)
        before = choice(Policy.STICKY, *FOUR, request=request)
        after = choice(Policy.STICKY, *(one for one in FOUR if one.id != gone), request=request)
        assert before in {after, gone}


def test_models_spread_over_the_children_that_they_stick_to() -> None:
    counts = Counter(choice(Policy.STICKY, *FOUR, request=replace(RUN, model=f"m{number}")) for number in range(400))
    assert counts.keys() == set("abcd")
    assert max(counts.values()) < 2 * min(counts.values())


@pytest.mark.parametrize("policy", [Policy.LEAST_INFLIGHT, Policy.ROUND_ROBIN, Policy.STICKY])
def test_luck_only_ever_breaks_ties(policy: Policy) -> None:
    children = (child("a"), child("z", busy=9))
    assert len({choice(policy, *children, luck=luck) for luck in (0.0, 0.5, 0.99)}) == 1
