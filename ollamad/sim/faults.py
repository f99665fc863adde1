"""What a simulated server can be told to do wrong, by `POST /sim/fault`."""

from __future__ import annotations

from enum import Enum


class Fault(Enum):
    """Each is on until it is taken back."""

    HANG = "hang"
    """The runners that are loaded now give no more tokens; `/api/version` answers. New runners are well."""
    STUCK = "stuck"
    """Models that expire stay in `/api/ps` ("Stopping…"), and whoever needs their place waits."""
    ENDLESS_LOAD = "endless-load"
    """Loads do not end."""
    FAIL_LOAD = "fail-load"
    """Loads fail with 500."""
    REFUSE = "refuse"
    """Inference is answered 500 at once."""
    FREEZE_PS = "freeze-ps"
    """`/api/ps` does not answer."""
    DEAF = "deaf"
    """Nothing answers, not even `/api/version`."""
    SLOW = "slow"
    """Everything that takes time takes `value` times as long."""
    EXIT = "exit"
    """The server exits with status 1, at once."""


class Faults:
    """The faults that are on."""

    def __init__(self) -> None:
        self._values: dict[Fault, float] = {}

    def set(self, fault: Fault, value: float = 1.0) -> None:
        """Turn one on."""
        self._values[fault] = value

    def clear(self, fault: Fault | None = None) -> None:
        """Take one back, or all."""
        for known in Fault if fault is None else (fault,):
            self._values.pop(known, None)

    def on(self, fault: Fault) -> bool:
        """Whether it is on."""
        return fault in self._values

    @property
    def slowness(self) -> float:
        """How many times as long everything takes."""
        return self._values.get(Fault.SLOW, 1.0)

    def told(self) -> dict[str, float]:
        """All that are on."""
        return {fault.value: value for fault, value in self._values.items()}
