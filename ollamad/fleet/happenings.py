"""What has happened lately to children and GPUs, in words, for those who look at a screen instead of a log."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ollamad.supervision.gpu_health import Health, Verdict
from ollamad.supervision.state import ChildState, Phase


class Weight(Enum):
    """How much an operator should mind."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Happening:
    """One of them."""

    at_s: float
    """On the monotonic clock."""
    subject: str
    """A child's id, or `GPU 3`."""
    weight: Weight
    text: str


def of_child(name: str, before: ChildState, after: ChildState, now_s: float) -> tuple[Happening, ...]:
    """What a step of its phase machine has brought."""
    told: list[tuple[Weight, str]] = []
    if after.deaths > before.deaths:
        failed = after.phase is Phase.FAILED
        told.append((Weight.ERROR if failed else Weight.WARNING, f"{'failed' if failed else 'died'}: {after.reason}"))
    elif after.phase is not before.phase:
        told.append(_phase(after))
    if after.quarantine != before.quarantine:
        if after.quarantine is None:
            told.append((Weight.INFO, "out of quarantine"))
        else:
            told.append((Weight.ERROR, f"in quarantine: {after.quarantine}"))
    return tuple(Happening(now_s, name, weight, text) for weight, text in told)


def of_gpu(index: int, verdict: Verdict, now_s: float) -> Happening:
    """A change of a GPU's health."""
    weight = {Health.HEALTHY: Weight.INFO, Health.SUSPECT: Weight.WARNING, Health.QUARANTINED: Weight.ERROR}
    text = verdict.health.value if verdict.reason is None else f"{verdict.health.value}: {verdict.reason}"
    return Happening(now_s, f"GPU {index}", weight[verdict.health], text)


def _phase(state: ChildState) -> tuple[Weight, str]:
    if state.phase is Phase.STOPPING and not state.asked and state.reason is not None:
        return Weight.WARNING, f"is ended: {state.reason}"
    return Weight.INFO, state.phase.value
