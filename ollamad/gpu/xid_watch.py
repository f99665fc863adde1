"""What the driver reports by itself: Xid errors and uncorrectable memory errors, through one NVML event set.

A set lives from one start of NVML to its end. Nothing here is essential: in containers, on some GPUs and under some
drivers registering is refused, and then there are no events.
"""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final

import pynvml

from ollamad.supervision.gpu_health import GpuEvent, GpuEventKind
from ollamad.supervision.xids import explain

_WANTED: Final[int] = pynvml.nvmlEventTypeXidCriticalError | pynvml.nvmlEventTypeDoubleBitEccError
KEPT: Final = 256
"""Events that wait to be asked for; of more the oldest go."""
ROUND_MAX: Final = 64
"""Events that one poll takes from the driver, so that a storm of them does not keep the thread."""


class XidWatch:
    """One event set at a time, polled without waiting. Every call may block."""

    def __init__(self) -> None:
        self._set: Any = None
        self._uuids: dict[int | None, str] = {}
        self._pending: deque[GpuEvent] = deque(maxlen=KEPT)

    def open(self, handles: Iterable[tuple[str, Any]]) -> None:
        """Watch these GPUs, as (UUID, handle), with a new set; those that refuse are not watched. Never raises."""
        self.close()
        try:
            self._set = pynvml.nvmlEventSetCreate()
        except pynvml.NVMLError:
            return
        for uuid, handle in handles:
            with suppress(pynvml.NVMLError):
                kinds = pynvml.nvmlDeviceGetSupportedEventTypes(handle) & _WANTED
                if kinds:
                    pynvml.nvmlDeviceRegisterEvents(handle, kinds, self._set)
                    self._uuids[_address(handle)] = uuid

    def take(self) -> tuple[GpuEvent, ...]:
        """All events since the last call, those of an earlier set included. Never raises."""
        self._poll()
        events = tuple(self._pending)
        self._pending.clear()
        return events

    def close(self) -> None:
        """Free the set, which must be done before NVML ends; its events are kept. Never raises."""
        if self._set is None:
            return
        self._poll()
        with suppress(pynvml.NVMLError):
            pynvml.nvmlEventSetFree(self._set)
        self._set = None
        self._uuids.clear()

    def _poll(self) -> None:
        if not self._uuids:
            return
        with suppress(pynvml.NVMLError):  # the usual one says that there are no more
            for _ in range(ROUND_MAX):
                data = pynvml.nvmlEventSetWait_v2(self._set, 0)
                uuid = self._uuids.get(_address(data.device))
                if uuid is not None:
                    self._pending.append(_event(uuid, data.eventType, data.eventData))


def _event(uuid: str, kind: int, data: int) -> GpuEvent:
    if kind == pynvml.nvmlEventTypeXidCriticalError:
        return GpuEvent(uuid, GpuEventKind.XID, f"Xid {data}: {explain(data).meaning}", xid=data)
    return GpuEvent(uuid, GpuEventKind.ECC, "an uncorrectable memory error")


def _address(handle: Any) -> int | None:
    """A handle's identity: ctypes makes a new object of the same pointer for each event."""
    return ctypes.cast(handle, ctypes.c_void_p).value
