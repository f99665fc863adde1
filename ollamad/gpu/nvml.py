"""NVIDIA's own library, NVML, as a provider of GPUs. It tolerates whatever one GPU, or one reading, does.

Drivers of many ages are met: a call that one does not export, or does not support on this GPU, costs its reading and
nothing else. Only what concerns the driver as a whole is an error.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, TypeVar

import pynvml

from ollamad.errors import GpuError
from ollamad.gpu.model import Gpu, Inventory, Sample

T = TypeVar("T")

REFUSALS: Final = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "no NVIDIA driver on this machine (libnvidia-ml.so.1 was not found)",
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "the NVIDIA driver is installed, but its kernel module is not loaded",
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: (
        "the NVIDIA driver was updated while an older one runs: reload its kernel modules, or reboot"
    ),
    pynvml.NVML_ERROR_NO_PERMISSION: "this user may not open the NVIDIA devices (/dev/nvidia*)",
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND: "the NVIDIA driver is too old: it lacks nvmlInitWithFlags",
}
"""What a refused start means to whoever has to mend it."""


class NvmlProvider:
    """A `GpuProvider` over pynvml. Any call may block: `GpuThread` makes them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._open = False
        self._indexes: dict[str, int] = {}

    def discover(self) -> Inventory:
        """All GPUs of the driver. None at all is no error; no driver is a GpuError that says what is missing."""
        self.close()  # NVML lists GPUs when it starts: only a fresh start sees one that came or went
        self._start()
        try:
            count: int = pynvml.nvmlDeviceGetCount()
        except pynvml.NVMLError as error:
            raise GpuError(f"the NVIDIA driver can't count its GPUs: {error}") from error
        gpus: list[Gpu] = []
        problems: list[str] = []
        for index in range(count):
            try:
                gpus.append(_gpu(index))
            except (pynvml.NVMLError, UnicodeDecodeError) as error:  # pynvml decodes strings itself, strictly
                problems.append(f"GPU {index} can't be used: {error}")
        self._indexes = {gpu.uuid: gpu.index for gpu in gpus}
        return Inventory(tuple(gpus), _driver_version(), tuple(problems))

    def sample(self, uuids: tuple[str, ...]) -> tuple[Sample, ...]:
        """Each of these GPUs once, in this order. Raises GpuError only where there is no driver to ask."""
        self._start()
        return tuple(self._sample(uuid) for uuid in uuids)

    def close(self) -> None:
        """Let go of the driver; a later call starts it again."""
        if self._open:
            self._open = False
            with suppress(pynvml.NVMLError):
                pynvml.nvmlShutdown()

    def _start(self) -> None:
        if self._open:
            return
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            raise GpuError(REFUSALS.get(error.value, f"the NVIDIA driver can't be started: {error}")) from error
        self._open = True

    def _sample(self, uuid: str) -> Sample:
        taken_at_s = self._clock()  # before the readings: a slow driver makes a sample look older, never fresher
        faults: list[str] = []
        try:
            handle = self._handle(uuid)
            memory = _attempt(_memory, handle, faults)
            utilization = _attempt(pynvml.nvmlDeviceGetUtilizationRates, handle, faults)
            temperature = _attempt(_temperature, handle, faults)
        except pynvml.NVMLError as error:
            return Sample(uuid, taken_at_s, None, None, None, None, error=str(error))
        return Sample(
            uuid=uuid,
            taken_at_s=taken_at_s,
            memory_used_bytes=None if memory is None else memory.used,
            memory_free_bytes=None if memory is None else memory.free,
            utilization_percent=None if utilization is None else utilization.gpu,
            temperature_c=temperature,
            error=faults[0] if all(one is None for one in (memory, utilization, temperature)) else None,
        )

    def _handle(self, uuid: str) -> Any:
        """The GPU's handle: by its UUID, or where that fails by the index that it had at discovery.

        The lookup by UUID walks over all GPUs, and fails as "GPU is lost" when any of them is: one GPU's fault would be
        every GPU's. An index may have moved on to another GPU, so the UUID found there decides.
        """
        try:
            return pynvml.nvmlDeviceGetHandleByUUID(uuid)
        except pynvml.NVMLError:
            if uuid not in self._indexes:
                raise
            handle = pynvml.nvmlDeviceGetHandleByIndex(self._indexes[uuid])
            if _text(pynvml.nvmlDeviceGetUUID(handle)) != uuid:
                raise
            return handle


def _gpu(index: int) -> Gpu:
    """Raises NVMLError where the GPU can't be opened, is lost, or has no UUID to pin a child by."""
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    uuid = _text(pynvml.nvmlDeviceGetUUID(handle))
    name = _attempt(pynvml.nvmlDeviceGetName, handle, [])
    memory = _attempt(_memory, handle, [])
    return Gpu(
        index=index,
        uuid=uuid,
        name="unnamed GPU" if name is None else _text(name),
        memory_total_bytes=None if memory is None else memory.total,
    )


def _driver_version() -> str | None:
    try:
        return _text(pynvml.nvmlSystemGetDriverVersion())
    except pynvml.NVMLError:
        return None


def _attempt(reading: Callable[[Any], T], handle: Any, faults: list[str]) -> T | None:
    """One reading; None where the driver refuses it, and why goes to `faults`. Raises NVMLError on a lost GPU alone."""
    try:
        return reading(handle)
    except pynvml.NVMLError as error:
        if error.value == pynvml.NVML_ERROR_GPU_IS_LOST:
            raise
        faults.append(str(error))
        return None


def _memory(handle: Any) -> Any:
    """Bytes as `total`, `free` and `used`.

    Version 2 does not count the driver's reserve as used. Drivers before 510 have only version 1, which does.
    """
    try:
        return pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
    except (pynvml.NVMLError_FunctionNotFound, pynvml.NVMLError_ArgumentVersionMismatch):
        return pynvml.nvmlDeviceGetMemoryInfo(handle)


def _temperature(handle: Any) -> int:
    celsius: int = pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU)
    return celsius


def _text(value: str | bytes) -> str:
    """NVML's strings are bytes in some releases of pynvml, and str in others."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value
