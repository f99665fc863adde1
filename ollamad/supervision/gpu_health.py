"""Whether a GPU can be trusted with a child: what it said, and what befell it, give a verdict.

    from                     on                                                  to
    any                      lost, gone, uncorrectable memory error, GPU's Xid   quarantined
    any                      unanswered for `unanswered_max_s`                   quarantined
    healthy                  first unanswered, driver fault, Xid worth a warning suspect
    suspect, quarantined     good readings only, for long enough                 healthy

A suspect is told and goes on working; a quarantined GPU gets no child. `verdict` is total, and knows no clock.

A program's own Xids change nothing. A driver that fails as a whole makes suspects only: it says nothing about one GPU,
and stopping all children over it would lose more than it saves. Readings can be good on a GPU that needs a reset, so a
quarantine that follows another is twice as long, up to a cap, until the GPU was healthy for as long as that cap.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Protocol, assert_never

from ollamad.supervision.xids import Blame, explain


class GpuEventKind(Enum):
    """What befell a GPU."""

    XID = "xid"
    """The driver reported an error with a number; see `xids`."""
    ECC = "ecc"
    """Memory errors that could not be corrected."""
    LOST = "lost"
    """Fallen off the bus: the driver counts it, and says of each call that it is lost."""
    GONE = "gone"
    """The driver does not list it any more."""
    UNANSWERED = "unanswered"
    """A call on it fails, or does not return."""
    DRIVER = "driver"
    """The driver fails as a whole, or hangs in a call that concerns no GPU in particular."""


@dataclass(frozen=True, slots=True)
class GpuEvent:
    """Something that befell one GPU."""

    uuid: str
    kind: GpuEventKind
    text: str
    """For people, one line."""
    xid: int | None = None
    """The number; None for all kinds but XID."""


class Reading(Protocol):
    """What a sample says of its GPU's health; `gpu.model.Sample` is one."""

    @property
    def uuid(self) -> str:
        """Whose it is."""

    @property
    def error(self) -> str | None:
        """Why the GPU gave no reading at all."""

    @property
    def fault(self) -> GpuEventKind | None:
        """LOST or UNANSWERED where `error` is a fault; None where it is none, such as "Not Supported"."""

    @property
    def ecc_uncorrected(self) -> int | None:
        """Uncorrectable memory errors since the driver was loaded; None where it does not count them."""


class Health(Enum):
    """Whether a GPU can be trusted."""

    HEALTHY = "healthy"
    SUSPECT = "suspect"
    QUARANTINED = "quarantined"


@dataclass(frozen=True, slots=True)
class HealthPolicy:
    """How patient to be."""

    unanswered_max_s: float = 10.0
    """So long may a GPU leave calls unanswered: a driver that only stalls (power saving, a debugger) needs seconds."""
    recover_after_s: float = 30.0
    """Good readings for this long end a suspicion, and the first quarantine."""
    recover_max_s: float = 1800.0
    """No quarantine asks for more; healthy for this long, a GPU's earlier quarantines are forgotten."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be done about a GPU now."""

    health: Health = Health.HEALTHY
    reason: str | None = None
    """Why it is not healthy, for people; None while it is."""


@dataclass(frozen=True, slots=True)
class GpuHealth:
    """All that is remembered of a GPU's health. Times are of the monotonic clock."""

    verdict: Verdict = Verdict()
    good_since_s: float | None = None
    """Since when there were good readings only; None while the last was bad."""
    unanswered_since_s: float | None = None
    quarantines: int = 0
    """How many in a row, without a long healthy time between."""
    ecc_uncorrected: int | None = None
    """The last known count: only growth is news, as the count of a driver that was loaded long ago may be any."""


Step = tuple[GpuHealth, Verdict]


def verdict(state: GpuHealth, fact: GpuEvent | Reading, now_s: float, policy: HealthPolicy) -> Step:
    """The next state, and the verdict in it. A reading that is bad counts as the event that `noticed` makes of it."""
    if isinstance(fact, GpuEvent):
        after = _befell(state, fact, now_s, policy)
    else:
        event = noticed(state, fact)
        if fact.ecc_uncorrected is not None:
            state = replace(state, ecc_uncorrected=fact.ecc_uncorrected)
        after = _good(state, now_s, policy) if event is None else _befell(state, event, now_s, policy)
    return after, after.verdict


def noticed(state: GpuHealth, reading: Reading) -> GpuEvent | None:
    """What this reading says is wrong: lost, unanswered, or new uncorrectable memory errors; None when it is good."""
    if reading.fault is not None:
        return GpuEvent(reading.uuid, reading.fault, reading.error or reading.fault.value)
    count, before = reading.ecc_uncorrected, state.ecc_uncorrected
    if count is None or before is None or count <= before:
        return None
    text = f"{count - before} new uncorrectable memory errors, {count} in all"
    return GpuEvent(reading.uuid, GpuEventKind.ECC, text)


def _befell(state: GpuHealth, event: GpuEvent, now_s: float, policy: HealthPolicy) -> GpuHealth:
    match event.kind:
        case GpuEventKind.XID:
            return _xid(state, event, now_s, policy)
        case GpuEventKind.ECC | GpuEventKind.LOST | GpuEventKind.GONE:
            return _quarantine(state, event.text, now_s, policy)
        case GpuEventKind.UNANSWERED:
            return _unanswered(state, event.text, now_s, policy)
        case GpuEventKind.DRIVER:
            return _suspect(state, event.text)
        case _:
            assert_never(event.kind)


def _xid(state: GpuHealth, event: GpuEvent, now_s: float, policy: HealthPolicy) -> GpuHealth:
    match explain(event.xid or 0).blame:
        case Blame.PROGRAM:
            return state
        case Blame.UNSURE:
            return _suspect(state, event.text)
        case Blame.GPU:
            return _quarantine(state, event.text, now_s, policy)
        case other:
            assert_never(other)


def _unanswered(state: GpuHealth, text: str, now_s: float, policy: HealthPolicy) -> GpuHealth:
    since_s = now_s if state.unanswered_since_s is None else state.unanswered_since_s
    state = replace(state, unanswered_since_s=since_s)
    if state.verdict.health is not Health.QUARANTINED and now_s - since_s >= policy.unanswered_max_s:
        return _quarantine(state, text, now_s, policy)
    return _suspect(state, text)


def _suspect(state: GpuHealth, text: str) -> GpuHealth:
    """Worse than healthy, no better than it is: a quarantine keeps its reason, and lasts longer."""
    if state.verdict.health is Health.QUARANTINED:
        return replace(state, good_since_s=None)
    return replace(state, good_since_s=None, verdict=Verdict(Health.SUSPECT, text))


def _quarantine(state: GpuHealth, text: str, now_s: float, policy: HealthPolicy) -> GpuHealth:
    """A fault during a quarantine renews it, and counts as no other."""
    count = state.quarantines
    if state.verdict.health is not Health.QUARANTINED:
        count = 1 if _long_healthy(state, now_s, policy) else count + 1
    return replace(state, good_since_s=None, quarantines=count, verdict=Verdict(Health.QUARANTINED, text))


def _good(state: GpuHealth, now_s: float, policy: HealthPolicy) -> GpuHealth:
    since_s = now_s if state.good_since_s is None else state.good_since_s
    state = replace(state, good_since_s=since_s, unanswered_since_s=None)
    if state.verdict.health is Health.HEALTHY or now_s - since_s < _wait_s(state, policy):
        return state
    # From here `good_since_s` counts the healthy time, in which the quarantines are forgotten.
    return replace(state, good_since_s=now_s, verdict=Verdict())


def _long_healthy(state: GpuHealth, now_s: float, policy: HealthPolicy) -> bool:
    return (
        state.verdict.health is Health.HEALTHY
        and state.good_since_s is not None
        and now_s - state.good_since_s >= policy.recover_max_s
    )


def _wait_s(state: GpuHealth, policy: HealthPolicy) -> float:
    """How long it must be good before it is healthy again."""
    if state.verdict.health is Health.SUSPECT:
        return policy.recover_after_s
    doublings = min(max(0, state.quarantines - 1), 32)  # bounded, so that no float overflows
    return min(policy.recover_after_s * 2.0**doublings, max(policy.recover_max_s, policy.recover_after_s))
