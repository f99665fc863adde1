"""GPUs and their samples as values, and the seam that a provider of them fills."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ollamad.supervision.gpu_health import GpuEvent, GpuEventKind
from ollamad.supervision.pinning import GpuProcess


@dataclass(frozen=True, slots=True)
class Gpu:
    """One device that a child can be pinned to."""

    index: int
    """The driver's index: stable until reboot, and not always CUDA's or HIP's; for people, never for pinning."""
    uuid: str
    """`GPU-…`: what a child is pinned by."""
    name: str
    memory_total_bytes: int | None
    """None where the driver does not say."""
    pinned_by: str = "CUDA_VISIBLE_DEVICES"
    """The variable that takes its UUID: by it a process is given this GPU, and none that it does not name."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One reading of one GPU. A reading that the driver refuses is None; the others stay."""

    uuid: str
    taken_at_s: float
    """When, on the monotonic clock."""
    memory_used_bytes: int | None = None
    memory_free_bytes: int | None = None
    utilization_percent: int | None = None
    """Share of the driver's last window (1/6 to 1 s) in which any kernel ran. Not how full the GPU is."""
    temperature_c: int | None = None
    power_w: float | None = None
    """What the board draws, averaged by the driver over up to a second."""
    throttle_reasons: tuple[str, ...] | None = None
    """What holds its clocks down: heat, power; empty while nothing does."""
    ecc_uncorrected: int | None = None
    """Memory errors that could not be corrected, since the driver was loaded; None also where there is no ECC."""
    processes: tuple[GpuProcess, ...] | None = None
    """Who is on it, computing or drawing, by number; None where the list can't be read."""
    error: str | None = None
    """Why this GPU gave no reading at all ("GPU is lost"); None when it did."""
    fault: GpuEventKind | None = None
    """LOST or UNANSWERED where `error` is a fault; None where the readings are merely not supported."""

    @property
    def throttled(self) -> bool | None:
        """Whether heat or power holds its clocks down."""
        return None if self.throttle_reasons is None else bool(self.throttle_reasons)


@dataclass(frozen=True, slots=True)
class Inventory:
    """What discovery found."""

    gpus: tuple[Gpu, ...]
    driver_version: str | None
    problems: tuple[str, ...] = ()
    """GPUs that the driver counts but can't open, one sentence each."""


class GpuProvider(Protocol):
    """Where GPUs come from: all that ollamad knows of one make of them. docs/EXTENDING.md walks through a new one.

    Every call may block, for good on a lost GPU: only `GpuThread` makes them.
    """

    @property
    def busy_with(self) -> str | None:
        """The GPU, by UUID, that the call in progress is about; None when it is about none. Read from any thread."""

    def discover(self) -> Inventory:
        """Find every GPU that is there now, as after a fresh start of the driver's library; sampling goes on after it.

        Raises GpuError when there is no driver or it errs as a whole.
        """

    def sample(self, uuids: tuple[str, ...]) -> tuple[Sample, ...]:
        """Read each of these GPUs once, in this order. Never raises for one GPU's fault."""

    def events(self) -> tuple[GpuEvent, ...]:
        """What the driver has reported since the last call, oldest first. Never raises."""

    def close(self) -> None:
        """Let go of the driver. Never raises."""
