"""A GPU that appears gets a child, but not in the middle of a reload, which has plans of its own."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from ollamad.config import Config
from ollamad.fleet import reload
from ollamad.fleet.plan import ChildPlan
from ollamad.gpu.model import Gpu

ZERO, ONE, TWO = (Gpu(index, f"GPU-{index}", "H100", None) for index in range(3))


def _fleet(*present: Gpu) -> Any:
    children = {f"gpu{gpu.index}": SimpleNamespace(plan=ChildPlan(f"gpu{gpu.index}", (gpu,))) for gpu in present}

    def add(plan: ChildPlan) -> None:
        children[plan.id] = SimpleNamespace(plan=plan)

    return SimpleNamespace(gpus=present, config=Config(), children=children, shaping=asyncio.Lock(), add=add)


async def _turns() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


async def test_a_gpu_that_appears_during_a_reload_gets_its_child_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reload, "NEW_GPUS_LOOK_S", 0.0)
    fleet = _fleet(ZERO, ONE)
    async with asyncio.TaskGroup() as tasks:
        minding = tasks.create_task(reload.mind_new_gpus(fleet))
        await _turns()
        async with fleet.shaping:
            del fleet.children["gpu1"]  # the reload is about to give its GPU to another child
            fleet.gpus = (ZERO, ONE, TWO)
            await _turns()
            assert list(fleet.children) == ["gpu0"]
            fleet.add(ChildPlan("gpu1", (ONE,)))
        await _turns()
        assert list(fleet.children) == ["gpu0", "gpu1", "gpu2"]
        minding.cancel()
