"""The simulator drives the daemon's own admission and decisions: what holds here holds of those."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.routing.child import Child
from bench.routing.clock import Clock
from bench.routing.ours import Ours
from bench.routing.parts import GB, Asked, GpuKind, Model
from bench.routing.run import percentile, simulate
from bench.routing.workloads import WORKLOADS, Workload
from ollamad.routing.request import Work

CARD = GpuKind()
EIGHT = Model("eight", int(4.9 * GB))


def run(asked: list[Asked], *, children: int = 1, slots: int = 1) -> list[Child]:
    """Serve these with ollamad's routing; each then knows when it was asked, begun and done."""
    clock = Clock()
    fleet = [Child(f"gpu{index}", CARD, clock, slots=slots, context_tokens=4096) for index in range(children)]
    models = tuple({one.model.name: one.model for one in asked}.values())
    balancer = Ours(fleet, clock, 1, models)
    for one in asked:
        clock.at(one.asked_s, lambda one=one: balancer.ask(one, lambda _: None))  # type: ignore[misc]
    clock.run(10_000.0)
    assert all(one.done_s is not None for one in asked)
    return fleet


def waits(asked: list[Asked]) -> list[float]:
    return sorted((one.first_s or 0.0) - one.asked_s for one in asked)


def modest(greedy: int) -> tuple[list[Asked], float]:
    """A client that asks now and then, beside one with so many in line; and how long one request takes."""
    warm = Asked(0, EIGHT, 100, 10, client="nobody")
    theirs = [Asked(number, EIGHT, 500, 100, client="greedy", asked_s=30.0) for number in range(1, greedy + 1)]
    ours = [Asked(1000 + number, EIGHT, 500, 100, client="modest", asked_s=31.0 + 8 * number) for number in range(20)]
    run([warm, *theirs, *ours])
    alone = Asked(1, EIGHT, 500, 100, asked_s=30.0)
    run([Asked(0, EIGHT, 100, 10), alone])
    return ours, (alone.done_s or 0.0) - alone.asked_s


def test_two_hundred_requests_of_one_client_move_another_s_p95_by_no_more_than_one_service_time() -> None:
    quiet, service_s = modest(0)
    crowded, _ = modest(200)
    assert percentile(waits(crowded), 0.95) - percentile(waits(quiet), 0.95) <= service_s * 1.01


def test_one_load_serves_all_who_wait_for_a_model() -> None:
    (child,) = run([Asked(number, EIGHT, 100, 50, asked_s=number * 0.1) for number in range(20)], slots=4)
    assert child.loads == 1


def test_embeddings_do_not_wait_behind_long_generations_of_the_same_model() -> None:
    long = [Asked(number, EIGHT, 100, 1500, asked_s=20.0 + number) for number in range(30)]
    short = [Asked(100 + number, EIGHT, 200, 0, work=Work.EMBED, asked_s=10.0 + 4 * number) for number in range(20)]
    run([*long, *short], slots=4)
    assert percentile(waits(short[5:]), 0.95) < 5.0


def test_a_rare_model_is_served_beside_a_hot_one_that_fills_the_only_gpu() -> None:
    hot, rare = Model("hot", 14 * GB), Model("rare", 14 * GB)
    asked = [Asked(number, hot, 500, 100, asked_s=number * 1.5) for number in range(400)]
    once = Asked(1000, rare, 100, 20, asked_s=200.0)
    run([*asked, once], slots=2)
    assert waits([once])[0] < 60.0


@pytest.mark.parametrize("name", ["fit", "conversation", "code", "turns", "failing", "hetero"])
def test_ollamad_is_no_worse_than_the_best_baseline(name: str) -> None:
    workload: Workload = replace(WORKLOADS[name]()[-1], requests=800)
    ours = simulate(workload, "ollamad", 3)
    others = [simulate(workload, policy, 3) for policy in ("round_robin", "least_conn", "hash_model")]
    assert ours.failed == 0
    assert ours.goodput >= max(other.goodput for other in others)
    assert ours.p95_s <= 1.1 * min(other.p95_s for other in others if not other.failed)


def test_half_of_the_models_in_memory_is_served_at_twice_the_rate() -> None:
    workload = replace(WORKLOADS["half"]()[-1], requests=800)
    ours, theirs = simulate(workload, "ollamad", 3), simulate(replace(workload, rate_per_s=0.3), "least_conn", 3)
    assert ours.p95_s < 15.0 < theirs.p95_s * 1.5
    assert ours.loads * 2 < theirs.loads
