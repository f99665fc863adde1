"""The parts of the cost, each alone."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from ollamad.routing import scorers
from ollamad.routing.decide import Request, Standing, decide
from ollamad.routing.prefixes import BLOCK_BYTES, prefix_of
from ollamad.routing.scorers import PRESSURES, Scorer, prefill_s, pressure_s, standing_of
from ollamad.routing.snapshot import ChildView, GpuView, LoadView
from tests.support.scene import EMBED, NOW_S, RUN, M, child, fleet, memory

SHAPED = replace(RUN, shape="shape")
LOADS = LoadView(M, "", NOW_S)


@pytest.mark.parametrize(
    ("request_", "view", "standing"),
    [
        (RUN, child("a", M), Standing.READY),
        (RUN, child("a", M, busy=1), Standing.READY),
        (RUN, child("a", M, busy=2), Standing.FULL),
        (RUN, child("a"), Standing.COLD),
        (RUN, child("a", "x"), Standing.COLD),
        (RUN, child("a", load=LOADS), Standing.LOADING),
        (RUN, child("a", "x", load=LoadView("y", "", NOW_S, ("x",))), Standing.BLOCKED),
        (RUN, child("a", M, load=LoadView("y", "", NOW_S, (M,))), Standing.BLOCKED),
        (RUN, child("a", M, load=LoadView("y", "", NOW_S, ("x",))), Standing.READY),
        (SHAPED, child("a", M), Standing.COLD),
        (SHAPED, child("a", M, shape="shape"), Standing.READY),
        (SHAPED, child("a", load=LOADS), Standing.BLOCKED),
        (SHAPED, child("a", M, load=LoadView("y", "", NOW_S)), Standing.BLOCKED),
    ],
)
def test_how_a_child_stands_to_a_request(request_: Request, view: ChildView, standing: Standing) -> None:
    assert standing_of(request_, view, slots=2) is standing


@pytest.mark.parametrize(("held", "share"), [(0, 1.0), (1, 0.75), (3, 0.25), (4, 0.0)])
def test_only_what_no_slot_holds_of_a_prompt_is_read(held: int, share: float) -> None:
    text = b"x" * BLOCK_BYTES * 4
    request, known = replace(RUN, prompt_bytes=len(text), prefix=prefix_of(text)), memory()
    known.prefixes.sent(("a", 1, M), request.prefix[:held], slots=1)
    assert prefill_s(request, child("a"), 50.0, 200.0, known) == 4.0 * share


def test_a_prompt_without_a_prefix_is_read_whole_and_of_no_bytes_in_no_time() -> None:
    known = memory()
    known.prefixes.sent(("a", 1, M), (1, 2), slots=1)
    assert prefill_s(replace(RUN, prompt_bytes=9), child("a"), 50.0, 200.0, known) == 4.0
    assert prefill_s(replace(RUN, prefix=(1, 2)), child("a"), 50.0, 0.0, known) == 0.0
    assert prefill_s(replace(RUN, prefix=(1,), model=None), child("a"), 50.0, 200.0, known) == 4.0


@pytest.mark.parametrize(
    ("in_flight", "whole_s", "pressure"),
    [(0, 1.0, 0.0), (1, 1.0, 0.35), (3, 1.0, 1.05), (2, 0.01, 0.04), (9, 1.0, 2.0), (3, 0.0, 0.06)],
)
def test_company_slows_the_reading_of_a_prompt_and_costs_a_little_in_any_case(
    in_flight: int, whole_s: float, pressure: float
) -> None:
    assert pressure_s(RUN, child("a", busy=in_flight), whole_s, 0.0) == pytest.approx(pressure)


READ = GpuView(0, "u", "a GPU", None, None, None, None, None, NOW_S, None)
HOT = 0.2
WIDE = 0.1


@pytest.mark.parametrize(
    ("readings", "pressure"),
    [
        ({}, 0.0),
        ({"utilization_percent": 50}, 0.15),
        ({"utilization_percent": 100, "utilization_smoothed_percent": 10.0}, 0.03),
        ({"utilization_percent": 100, "utilization_smoothed_percent": 0.0}, 0.0),
        ({"temperature_c": 83}, 0.0),
        ({"temperature_c": 84}, HOT),
        ({"temperature_c": 90, "throttled": False}, 0.0),
        ({"temperature_c": 20, "throttled": True}, HOT),
        ({"temperature_c": 90, "sampled_at_s": None}, 0.0),
        ({"temperature_c": 90, "sampled_at_s": NOW_S - 1}, HOT),
        ({"temperature_c": 90, "sampled_at_s": NOW_S - 1.1}, 0.0),
    ],
)
def test_what_a_gpu_tells_that_slows_it(readings: dict[str, object], pressure: float) -> None:
    gpu = replace(READ, **readings)  # type: ignore[arg-type]
    assert of_gpus(gpu) == pytest.approx(pressure)
    assert of_gpus(gpu, gpu) == pytest.approx(2 * pressure + WIDE)


def test_a_gpu_of_which_nothing_is_known_hides_no_other() -> None:
    hot, stale = replace(READ, temperature_c=90), replace(READ, sampled_at_s=None)
    assert of_gpus(stale, hot) == of_gpus(hot, stale) == pytest.approx(HOT + WIDE)


def test_a_busy_gpu_is_no_news_while_our_own_requests_are_on_it_but_heat_is() -> None:
    gpu = replace(READ, utilization_percent=100, throttled=True)
    assert of_gpus(gpu, in_flight=1) == pytest.approx(0.02 + HOT)


def test_one_gpu_is_not_wide_and_an_embedding_does_not_mind_width() -> None:
    assert [of_gpus(*[READ] * count) for count in (0, 1, 2, 3)] == [0.0, 0.0, WIDE, WIDE]
    assert of_gpus(READ, READ, request=EMBED) == 0.0


def of_gpus(*gpus: GpuView, in_flight: int = 0, request: Request = RUN) -> float:
    view = msgspec.structs.replace(child("a", busy=in_flight), gpus=gpus)
    return pressure_s(request, view, 0.0, NOW_S - 1)


def far_s(_request: Request, child: ChildView, _prefill: float, _stale_before_s: float, /) -> float:
    """A scorer as small as one can be."""
    return 0.5 if child.id == "far" else 0.0


def test_one_more_scorer_decides_and_shows_in_the_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    foreign: Scorer = far_s  # what mypy holds it to
    snapshot = fleet(child("far", M), child("near", M))
    assert decide(RUN, snapshot, memory(), 0.0).child == "far"
    monkeypatch.setattr(scorers, "PRESSURES", (*PRESSURES, foreign))
    decision = decide(RUN, snapshot, memory(), 0.0)
    assert decision.child == "near"
    assert "pressure 0.50" in decision.explain()["far"]


def test_a_scorer_finds_nothing_against_a_child_that_is_idle_and_of_which_nothing_is_known() -> None:
    assert [scorer(RUN, child("a", M), 0.1, 0.0) for scorer in PRESSURES] == [0.0] * len(PRESSURES)
