"""The limits that the phase machine decides by, and the wait before a child that died is started again."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """Times of a child's life, in seconds; the configuration says why each default is so."""

    start_timeout_s: float = 120.0
    stop_timeout_s: float = 2.5
    drain_timeout_s: float = 300.0
    backoff_initial_s: float = 0.5
    backoff_max_s: float = 60.0
    backoff_jitter: float = 0.25
    healthy_after_s: float = 60.0
    misses_max: int = 3
    """Liveness probes in a row, not seconds, after which a silent child is ended."""
    move_after_misses: int = 1
    """The same, after which what waits for it goes elsewhere; 0 for never."""
    crash_loop_deaths: int = 5
    crash_loop_window_s: float = 120.0
    failed_retry_s: float = 300.0
    """0 for never."""
    runner_grace_s: float = 10.0
    """After its runners were killed, how long the child has to recover before it may be called stuck again."""
    stuck_window_s: float = 1800.0
    """Stuck again within this, the child itself is killed; how long that is remembered against its GPU, too."""
    wedges_max: int = 3
    quarantine_s: float = 600.0


def backoff_s(failures: int, policy: RestartPolicy, luck: float) -> float:
    """Seconds to wait after the `failures`-th death in a row; `luck` in [0, 1) is where in the jitter it falls.

    The first death costs nothing: most are single, and each second without a child is felt. From the second on the wait
    doubles up to the cap; jitter only shortens it, so the cap holds.
    """
    if failures <= 1:
        return 0.0
    doublings = min(failures - 2, 63)  # past that every float is over any cap
    full = min(policy.backoff_max_s, policy.backoff_initial_s * 2.0**doublings)
    return full * (1.0 - policy.backoff_jitter * luck)
