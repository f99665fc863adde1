"""GPUs and their samples as values, and the seam that a provider of them fills."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Gpu:
    """One device that a child can be pinned to."""

    index: int
    """NVML's index: stable until reboot, and not always CUDA's; for people, never for pinning."""
    uuid: str
    """`GPU-…`: what a child is pinned by."""
    name: str
    memory_total_bytes: int | None
    """None where the driver does not say."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One reading of one GPU. A reading that the driver refuses is None; the others stay."""

    uuid: str
    taken_at_s: float
    """When, on the monotonic clock."""
    memory_used_bytes: int | None
    memory_free_bytes: int | None
    utilization_percent: int | None
    """Share of the driver's last window (1/6 to 1 s) in which any kernel ran. Not how full the GPU is."""
    temperature_c: int | None
    error: str | None = None
    """Why this GPU gave no reading at all ("GPU is lost"); None when it did."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """What discovery found."""

    gpus: tuple[Gpu, ...]
    driver_version: str | None
    problems: tuple[str, ...] = ()
    """GPUs that the driver counts but can't open, one sentence each."""


class GpuProvider(Protocol):
    """Where GPUs come from. Every call may block, for good on a lost GPU: only `GpuThread` makes them."""

    def discover(self) -> Inventory:
        """Find every GPU. Raises GpuError when there is no driver or it errs as a whole."""

    def sample(self, uuids: tuple[str, ...]) -> tuple[Sample, ...]:
        """Read each of these GPUs once, in this order. Never raises for one GPU's fault."""

    def close(self) -> None:
        """Let go of the driver. Never raises."""
