"""Single readings of one GPU through NVML, as drivers of many ages give them.

Each raises `NVMLError` where the driver refuses it; `NvmlProvider` decides what that costs.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import pynvml

from ollamad.supervision.pinning import GpuProcess

_PROC: Final = Path("/proc")
_TOO_OLD: Final = (pynvml.NVMLError_FunctionNotFound, pynvml.NVMLError_ArgumentVersionMismatch)
_NOT_THERE: Final = (pynvml.NVMLError_FunctionNotFound, pynvml.NVMLError_NotSupported)

_THROTTLES: Final = {
    pynvml.nvmlClocksEventReasonSwPowerCap: "power cap",
    pynvml.nvmlClocksEventReasonHwPowerBrakeSlowdown: "power brake",
    pynvml.nvmlClocksEventReasonSwThermalSlowdown: "heat",
    pynvml.nvmlClocksEventReasonHwThermalSlowdown: "heat (hardware)",
    pynvml.nvmlClocksEventReasonHwSlowdown: "hardware slowdown",
}
"""Reasons for lower clocks that are trouble or a limit; the others are idleness and settings."""


def memory(handle: Any) -> Any:
    """Bytes as `total`, `free` and `used`.

    Version 2 does not count the driver's reserve as used. Drivers before 510 have only version 1, which does.
    """
    try:
        return pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
    except _TOO_OLD:
        return pynvml.nvmlDeviceGetMemoryInfo(handle)


def utilization_percent(handle: Any) -> int:
    """See `Sample.utilization_percent`."""
    percent: int = pynvml.nvmlDeviceGetUtilizationRates(handle).gpu
    return percent


def temperature_c(handle: Any) -> int:
    """Of the GPU's own sensor."""
    celsius: int = pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU)
    return celsius


def power_w(handle: Any) -> float:
    """NVML says milliwatts."""
    milliwatts: int = pynvml.nvmlDeviceGetPowerUsage(handle)
    return milliwatts / 1000


def throttle_reasons(handle: Any) -> tuple[str, ...]:
    """What holds the clocks down. Drivers before 535 know the call by its older name."""
    try:
        reasons: int = pynvml.nvmlDeviceGetCurrentClocksEventReasons(handle)
    except pynvml.NVMLError_FunctionNotFound:
        reasons = pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)
    return tuple(text for bit, text in _THROTTLES.items() if reasons & bit)


def ecc_uncorrected(handle: Any) -> int:
    """Since the driver was loaded or the GPU was reset, in all its memories."""
    count: int = pynvml.nvmlDeviceGetTotalEccErrors(
        handle, pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC
    )
    return count


def processes(handle: Any) -> tuple[GpuProcess, ...]:
    """Who computes or draws on it, by number. Vulkan draws: a list of those who compute alone would miss it.

    A GPU that can't draw may refuse the second list as not supported; any other refusal of either is raised, as half a
    list would look like proof.
    """
    computing = _listed(
        handle, pynvml.nvmlDeviceGetComputeRunningProcesses_v3, pynvml.nvmlDeviceGetComputeRunningProcesses_v2
    )
    try:
        drawing = _listed(
            handle, pynvml.nvmlDeviceGetGraphicsRunningProcesses_v3, pynvml.nvmlDeviceGetGraphicsRunningProcesses_v2
        )
    except _NOT_THERE:
        drawing = {}
    both = {pid: _larger(computing.get(pid), drawing.get(pid)) for pid in computing.keys() | drawing.keys()}
    return tuple(GpuProcess(pid, size, here=(_PROC / str(pid)).exists()) for pid, size in sorted(both.items()))


def _listed(handle: Any, ask: Any, ask_old: Any) -> dict[int, int | None]:
    """Memory by process. Drivers before 510 lack version 3 of these lists."""
    try:
        return _by_pid(ask(handle))
    except _TOO_OLD:
        return _by_pid(ask_old(handle))


def _by_pid(found: Iterable[Any]) -> dict[int, int | None]:
    return {int(one.pid): one.usedGpuMemory for one in found}


def _larger(one: int | None, other: int | None) -> int | None:
    """A process in both lists has the same memory in each; either may not be said."""
    known = [size for size in (one, other) if size is not None]
    return max(known, default=None)
