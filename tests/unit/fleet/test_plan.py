from __future__ import annotations

import pytest

from ollamad.errors import StartError
from ollamad.fleet.plan import ChildPlan, plan_children
from ollamad.gpu.model import Gpu

G0, G1 = (Gpu(index, f"GPU-{index}", "NVIDIA A100", 40 << 30) for index in range(2))


def ids(plans: tuple[ChildPlan, ...]) -> list[str]:
    return [plan.id for plan in plans]


def test_without_a_gpu_auto_means_one_cpu_child() -> None:
    assert ids(plan_children([], "auto", require_gpu=False, why_no_gpu="no driver")) == ["cpu0"]


def test_with_gpus_auto_means_no_cpu_child() -> None:
    assert ids(plan_children([("gpu0", (G0,))], "auto", require_gpu=False, why_no_gpu="")) == ["gpu0"]


def test_a_number_of_cpu_children_is_had_beside_gpus_and_without() -> None:
    assert ids(plan_children([("gpu0", (G0,))], 1, require_gpu=False, why_no_gpu="")) == ["gpu0", "cpu0"]
    assert ids(plan_children([], 2, require_gpu=False, why_no_gpu="no driver")) == ["cpu0", "cpu1"]


def test_a_required_gpu_that_is_not_there_is_refused_with_the_reason() -> None:
    with pytest.raises(StartError, match=r"require_gpu = true.*no driver"):
        plan_children([], "auto", require_gpu=True, why_no_gpu="no driver")


def test_a_fleet_of_nobody_is_refused() -> None:
    with pytest.raises(StartError, match=r"gpus\.cpu_children = 0.*no driver"):
        plan_children([], 0, require_gpu=False, why_no_gpu="no driver")


def test_the_memory_of_a_wide_child_is_that_of_its_gpus_together_and_unknown_when_one_is() -> None:
    assert ChildPlan("gpu0+1", (G0, G1)).vram_bytes == 80 << 30
    assert ChildPlan("gpu0+1", (G0, Gpu(1, "GPU-1", "x", None))).vram_bytes is None
    assert ChildPlan("cpu0").vram_bytes is None
