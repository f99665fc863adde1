"""Whether a child that answers its probes gets anything done. Pure.

`/api/version` takes no lock: it stays 200 while a runner hangs, a load never ends, or a model is "Stopping…" for ever
(OLLAMA.md section 5, seen in ollama issues 7779, 9382, 13234, 14364). Only what was asked of the child tells:

- a response that has begun, and whose client takes what comes, must go on;
- a request that has not begun may be queued behind another, loading, or reading its prompt. None of these is a hang:
  what is queued has a sibling that is heard, a load is known by its model not being resident, and a prompt keeps the
  device busy;
- a model past its keep-alive that nobody uses must go away;
- `/api/ps` may block for seconds while a model unloads, not for long.

What can't be known (no telemetry) counts in favour of the child, until the last limit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

GAPS: Final = 10.0
"""How many times its longest usual pause a stream may be silent."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds after which silence is a hang; the configuration says why each default is so."""

    stream_s: float = 60.0
    first_byte_s: float = 300.0
    busy_s: float = 3600.0
    load_s: float = 900.0
    stopping_s: float = 60.0
    ps_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Stream:
    """One request that the child was given."""

    model: str
    since_s: float
    heard_s: float | None
    """When a byte of its response last came; None before the first."""
    held: bool = False
    """Its client does not take what is there: the silence is not the child's."""


@dataclass(frozen=True, slots=True)
class Loading:
    """A model that ollamad itself has told the child to load, ahead of the requests for it."""

    model: str
    since_s: float


@dataclass(frozen=True, slots=True)
class Pulse:
    """What is known of one child that answers."""

    streams: tuple[Stream, ...] = ()
    expiries_s: Mapping[str, float | None] | None = None
    """When the keep-alive of each resident model ends or ended; None where `/api/ps` has not been answered yet."""
    ps_silent_since_s: float | None = None
    """Since when `/api/ps` is asked in vain; None while it answers."""
    busy: bool | None = None
    """Whether its devices, or its processes, have worked lately; None where nothing tells."""
    usual_gaps_s: Mapping[str, float] | None = None
    """The longest usual pause in a stream, by model, as far as it was seen."""
    loading: Loading | None = None


@dataclass(frozen=True, slots=True)
class Hang:
    """What is stuck, and how that shows."""

    model: str | None
    reason: str


def hang(pulse: Pulse, patience: Patience, now_s: float) -> Hang | None:
    """The first sign of a hang, the surest before the others; None where there is none."""
    signs = (
        _silent_stream(pulse, patience, now_s),
        _silent_start(pulse, patience, now_s),
        _endless_load(pulse, patience, now_s),
        _endless_stop(pulse, patience, now_s),
        _silent_ps(pulse, patience, now_s),
    )
    return next((sign for sign in signs if sign), None)


def _silent_stream(pulse: Pulse, patience: Patience, now_s: float) -> Hang | None:
    gaps_s = pulse.usual_gaps_s or {}
    for stream in pulse.streams:
        if stream.heard_s is not None and not stream.held:
            silent_s = now_s - stream.heard_s
            if silent_s >= max(patience.stream_s, GAPS * gaps_s.get(stream.model, 0.0)):
                return Hang(stream.model, f"a stream of {stream.model} has been silent for {silent_s:.0f} s")
    return None


def _silent_start(pulse: Pulse, patience: Patience, now_s: float) -> Hang | None:
    """The longest-waiting request without a byte: those behind it may only be queued."""
    waiting = [stream for stream in pulse.streams if stream.heard_s is None]
    if not waiting or pulse.expiries_s is None:
        return None
    first = min(waiting, key=lambda stream: stream.since_s)
    if first.model not in pulse.expiries_s:
        return _too_long(Loading(first.model, first.since_s), patience, now_s)
    waited_s = now_s - _last_sign_s(first, pulse.streams)
    limit_s = patience.first_byte_s if pulse.busy is False else patience.busy_s
    if waited_s < limit_s:
        return None
    idle = ", and its device does nothing" if pulse.busy is False else ""
    return Hang(first.model, f"{first.model} has not begun to answer for {waited_s:.0f} s{idle}")


def _endless_load(pulse: Pulse, patience: Patience, now_s: float) -> Hang | None:
    return None if pulse.loading is None else _too_long(pulse.loading, patience, now_s)


def _too_long(loading: Loading, patience: Patience, now_s: float) -> Hang | None:
    waited_s = now_s - loading.since_s
    if waited_s < patience.load_s:
        return None
    return Hang(loading.model, f"{loading.model} has been loading for {waited_s:.0f} s")


def _last_sign_s(first: Stream, streams: Iterable[Stream]) -> float:
    """Since when nothing is heard of its model: while a sibling streams, a request may wait for its slot."""
    return max(
        first.since_s,
        *(stream.heard_s for stream in streams if stream.model == first.model and stream.heard_s is not None),
        0.0,
    )


def _endless_stop(pulse: Pulse, patience: Patience, now_s: float) -> Hang | None:
    used = {stream.model for stream in pulse.streams}
    for model, expiry_s in (pulse.expiries_s or {}).items():
        if expiry_s is not None and model not in used and now_s - expiry_s >= patience.stopping_s:
            return Hang(model, f"{model} should have been unloaded {now_s - expiry_s:.0f} s ago, and nobody uses it")
    return None


def _silent_ps(pulse: Pulse, patience: Patience, now_s: float) -> Hang | None:
    if pulse.ps_silent_since_s is None or now_s - pulse.ps_silent_since_s < patience.ps_s:
        return None
    return Hang(None, f"/api/ps has not been answered for {now_s - pulse.ps_silent_since_s:.0f} s")
