"""Which GPUs there are, and so which children: the selection held against the driver, told once."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from ollamad.config.schema import Gpus
from ollamad.errors import ConfigError, GpuError, Problem
from ollamad.fleet.plan import ChildPlan, plan_children
from ollamad.gpu.model import Gpu, Inventory
from ollamad.gpu.selection import Wanted, select
from ollamad.gpu.thread import GpuThread

log = structlog.get_logger()

NO_GPU: Final = "the GPU driver sees no GPU"


@dataclass(frozen=True, slots=True)
class Note:
    """Something to say in the log once the daemon listens: where to send requests comes first."""

    level: int
    event: str
    facts: Mapping[str, object]

    def tell(self) -> None:
        """Say it."""
        log.log(self.level, self.event, **self.facts)


async def discover(gpus: Gpus, gpu_thread: GpuThread) -> tuple[tuple[ChildPlan, ...], tuple[Note, ...]]:
    """Which children this machine gets, and what there is to say about its GPUs.

    Raises ConfigError where the selection contradicts itself on these GPUs, StartError where no child is left.
    """
    inventory, why_no_gpu = await _inventory(gpu_thread)
    notes = [Note(logging.INFO, "gpu found", _facts(gpu, inventory.driver_version)) for gpu in inventory.gpus]
    plans, odd = plan(gpus, inventory, why_no_gpu)
    notes += [Note(logging.WARNING, "gpu left out", {"reason": reason}) for reason in odd]
    if not any(child.gpus for child in plans):
        facts = {"reason": why_no_gpu or "none is selected", "children": len(plans)}
        notes.append(Note(logging.WARNING, "no gpu, children run on the cpu", facts))
    return plans, tuple(notes)


def plan(gpus: Gpus, inventory: Inventory, why_no_gpu: str) -> tuple[tuple[ChildPlan, ...], tuple[str, ...]]:
    """The children for these GPUs, and why others get none. `why_no_gpu` says why there are none at all, if so.

    Raises ConfigError where the selection contradicts itself on these GPUs, StartError where no child is left.
    """
    selection = select(inventory, Wanted(include=gpus.include, exclude=gpus.exclude, groups=gpus.groups))
    odd = (*inventory.problems, *selection.warnings)
    if selection.problems:
        raise ConfigError(tuple(Problem("gpus", problem) for problem in selection.problems))
    plans = plan_children(
        [(pinned.id, pinned.gpus) for pinned in selection.pinned],
        gpus.cpu_children,
        require_gpu=gpus.require_gpu,
        why_no_gpu=why_no_gpu or "; ".join(odd) or "none is selected",
    )
    return plans, odd


def _facts(gpu: Gpu, driver_version: str | None) -> Mapping[str, object]:
    return {
        "index": gpu.index,
        "uuid": gpu.uuid,
        "name": gpu.name,
        "memory_bytes": gpu.memory_total_bytes,
        "driver": driver_version,
    }


async def _inventory(gpu_thread: GpuThread) -> tuple[Inventory, str]:
    """The GPUs, and where there are none, why."""
    try:
        inventory = await gpu_thread.discover()
    except GpuError as error:
        return Inventory(gpus=(), driver_version=None), str(error)
    return inventory, "" if inventory.gpus else NO_GPU
