"""NVIDIA's own library, NVML, as a provider of GPUs. It tolerates whatever one GPU, or one reading, does.

Drivers of many ages are met: a call that one does not export, or does not support on this GPU, costs its reading and
nothing else. Only what concerns the driver as a whole is an error.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeVar

import pynvml

from ollamad.errors import GpuError
from ollamad.gpu import readings
from ollamad.gpu.model import Gpu, Inventory, Sample
from ollamad.gpu.xid_watch import XidWatch
from ollamad.supervision.gpu_health import GpuEvent, GpuEventKind

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

_NO_FAULT: Final = frozenset(
    {
        pynvml.NVML_ERROR_NOT_SUPPORTED,
        pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
        pynvml.NVML_ERROR_NO_PERMISSION,
    }
)
"""Refusals that say what this GPU, driver or user can't do, not that something is broken."""


class NvmlProvider:
    """A `GpuProvider` over pynvml. Any call may block: `GpuThread` makes them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._open = False
        self._indexes: dict[str, int] = {}
        self._watch = XidWatch()
        self._busy_with: str | None = None

    @property
    def busy_with(self) -> str | None:
        """See `GpuProvider.busy_with`."""
        return self._busy_with

    def discover(self) -> Inventory:
        """All GPUs of the driver. None at all is no error; no driver is a GpuError that says what is missing."""
        self.close()  # NVML lists GPUs when it starts: only a fresh start sees one that came or went
        self._start()
        try:
            count: int = pynvml.nvmlDeviceGetCount()
        except pynvml.NVMLError as error:
            raise GpuError(f"the NVIDIA driver can't count its GPUs: {error}") from error
        known = {index: uuid for uuid, index in self._indexes.items()}
        found: list[tuple[Gpu, Any]] = []
        problems: list[str] = []
        for index in range(count):
            with self._about(known.get(index)):
                try:
                    found.append(_gpu(index))
                except (pynvml.NVMLError, UnicodeDecodeError) as error:  # pynvml decodes strings itself, strictly
                    problems.append(f"GPU {index} can't be used: {error}")
        self._indexes = {gpu.uuid: gpu.index for gpu, _ in found}
        self._watch.open((gpu.uuid, handle) for gpu, handle in found)
        return Inventory(tuple(gpu for gpu, _ in found), _driver_version(), tuple(problems))

    def sample(self, uuids: tuple[str, ...]) -> tuple[Sample, ...]:
        """Each of these GPUs once, in this order. Raises GpuError only where there is no driver to ask."""
        self._start()
        samples: list[Sample] = []
        for uuid in uuids:
            with self._about(uuid):
                samples.append(self._sample(uuid))
        return tuple(samples)

    def events(self) -> tuple[GpuEvent, ...]:
        """What the driver reported of the GPUs that the last discovery found."""
        return self._watch.take()

    def close(self) -> None:
        """Let go of the driver; a later call starts it again."""
        if self._open:
            self._watch.close()
            self._open = False
            with suppress(pynvml.NVMLError):
                pynvml.nvmlShutdown()

    @contextmanager
    def _about(self, uuid: str | None) -> Iterator[None]:
        """Let it be known which GPU the calls within are about."""
        self._busy_with = uuid
        try:
            yield
        finally:
            self._busy_with = None

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
        refused: list[pynvml.NVMLError] = []
        try:
            handle = self._handle(uuid)
            memory = _attempt(readings.memory, handle, refused)
            utilization = _attempt(readings.utilization_percent, handle, refused)
            temperature = _attempt(readings.temperature_c, handle, refused)
            nothing = all(one is None for one in (memory, utilization, temperature))
            error = refused[0] if nothing else None
            return Sample(
                uuid=uuid,
                taken_at_s=taken_at_s,
                memory_used_bytes=None if memory is None else memory.used,
                memory_free_bytes=None if memory is None else memory.free,
                utilization_percent=utilization,
                temperature_c=temperature,
                power_w=_attempt(readings.power_w, handle, refused),
                throttle_reasons=_attempt(readings.throttle_reasons, handle, refused),
                ecc_uncorrected=_attempt(readings.ecc_uncorrected, handle, refused),
                processes=_attempt(readings.processes, handle, refused),
                error=None if error is None else str(error),
                fault=_fault(refused[:3]) if nothing else None,
            )
        except pynvml.NVMLError as error:
            return Sample(uuid, taken_at_s, error=str(error), fault=_fault([error]))

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


def _gpu(index: int) -> tuple[Gpu, Any]:
    """A GPU and its handle. Raises NVMLError where it can't be opened, is lost, or has no UUID to pin a child by."""
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    uuid = _text(pynvml.nvmlDeviceGetUUID(handle))
    name = _attempt(pynvml.nvmlDeviceGetName, handle, [])
    memory = _attempt(readings.memory, handle, [])
    gpu = Gpu(
        index=index,
        uuid=uuid,
        name="unnamed GPU" if name is None else _text(name),
        memory_total_bytes=None if memory is None else memory.total,
    )
    return gpu, handle


def _driver_version() -> str | None:
    try:
        return _text(pynvml.nvmlSystemGetDriverVersion())
    except pynvml.NVMLError:
        return None


def _attempt(reading: Callable[[Any], T], handle: Any, refused: list[pynvml.NVMLError]) -> T | None:
    """One reading; None where the driver refuses it, and why goes to `refused`. Raises NVMLError on a lost GPU only."""
    try:
        return reading(handle)
    except pynvml.NVMLError as error:
        if error.value == pynvml.NVML_ERROR_GPU_IS_LOST:
            raise
        refused.append(error)
        return None


def _fault(errors: Iterable[pynvml.NVMLError]) -> GpuEventKind | None:
    """What a GPU without a single reading suffers from; None where these are only things that it can't do."""
    codes = {error.value for error in errors}
    if pynvml.NVML_ERROR_GPU_IS_LOST in codes:
        return GpuEventKind.LOST
    return GpuEventKind.UNANSWERED if codes - _NO_FAULT else None


def _text(value: str | bytes) -> str:
    """NVML's strings are bytes in some releases of pynvml, and str in others."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value
