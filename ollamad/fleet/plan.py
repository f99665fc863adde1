"""Which children this run has: the GPUs that were selected, and the CPU children that were asked for. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ollamad.errors import StartError
from ollamad.gpu.model import Gpu


@dataclass(frozen=True, slots=True)
class ChildPlan:
    """One child to run."""

    id: str
    gpus: tuple[Gpu, ...] = ()
    """Empty for a child on the CPU."""

    @property
    def uuids_by_variable(self) -> dict[str, tuple[str, ...]]:
        """The UUIDs of its GPUs, by the variable that pins a process to them."""
        variables = dict.fromkeys(gpu.pinned_by for gpu in self.gpus)
        return {name: tuple(gpu.uuid for gpu in self.gpus if gpu.pinned_by == name) for name in variables}

    @property
    def vram_bytes(self) -> int | None:
        """Memory of its GPUs together; None where a driver does not say, or there is none."""
        sizes = [gpu.memory_total_bytes for gpu in self.gpus]
        return None if not sizes or None in sizes else sum(size for size in sizes if size is not None)


def plan_children(
    pinned: Sequence[tuple[str, tuple[Gpu, ...]]],
    cpu_children: int | Literal["auto"],
    *,
    require_gpu: bool,
    why_no_gpu: str,
) -> tuple[ChildPlan, ...]:
    """All children, GPUs first. `why_no_gpu` goes into the error where a GPU is required and none is there.

    Raises StartError where there would be no child at all, or no GPU although one is required.
    """
    on_gpus = tuple(ChildPlan(child, gpus) for child, gpus in pinned)
    if require_gpu and not on_gpus:
        raise StartError(f"gpus.require_gpu = true, but there is no GPU to use: {why_no_gpu}")
    wanted = (0 if on_gpus else 1) if cpu_children == "auto" else cpu_children
    if not on_gpus and not wanted:
        raise StartError(f"there would be no child: gpus.cpu_children = 0, and no GPU to use: {why_no_gpu}")
    return on_gpus + tuple(ChildPlan(f"cpu{number}") for number in range(wanted))
