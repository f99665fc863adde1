"""What the log says of a child's steps: its phases, its deaths, its quarantine."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from structlog.typing import FilteringBoundLogger

from ollamad.fleet.known import Known
from ollamad.routing.snapshot import StreamView
from ollamad.supervision.state import ChildState, Phase, Want


@dataclass(frozen=True, slots=True)
class Facts:
    """What else is known when it is said."""

    known: Known
    streams: Callable[[], Sequence[StreamView]]
    """The requests that the child has; looked at only where it is said."""
    said: Sequence[str]
    """What its last process printed before it died."""


def tell_step(log: FilteringBoundLogger, before: ChildState, state: ChildState, facts: Facts) -> None:
    """Say what a step changed; nothing where that is nothing to an operator."""
    if state.deaths > before.deaths:
        _tell_death(log, state, facts)
    elif state.phase is not before.phase:
        _tell_phase(log, state, facts)
    if state.quarantine != before.quarantine:
        if state.quarantine is not None:
            log.error("child in quarantine", reason=state.quarantine)
        else:
            log.info("child out of quarantine")


def _tell_death(log: FilteringBoundLogger, state: ChildState, facts: Facts) -> None:
    failed = state.phase is Phase.FAILED
    log.log(
        logging.ERROR if failed else logging.WARNING,
        "child failed" if failed else "child died",
        reason=state.reason,
        failures=state.failures,
        restart_in_s=_wait_s(state),
        said=facts.said,
    )


def _tell_phase(log: FilteringBoundLogger, state: ChildState, facts: Facts) -> None:
    match state.phase:
        case Phase.READY:
            log.info("child ready", life=state.life, version=facts.known.version, port=facts.known.port)
        case Phase.DRAINING:
            log.info("child drains", streams=len(facts.streams()), reason=state.quarantine)
        case Phase.STOPPING if state.want is Want.UP and not state.asked:
            log.error("child is ended", reason=state.reason)
        case Phase.STOPPED:
            log.info("child stopped", reason=state.quarantine)
        case _:
            return


def _wait_s(state: ChildState) -> float | None:
    """Until it is started again; None where that takes a reset, or a GPU that is well."""
    if state.phase in {Phase.BACKOFF, Phase.FAILED, Phase.STOPPED}:
        return None if state.deadline_s is None else round(max(0.0, state.deadline_s - time.monotonic()), 2)
    return 0.0
