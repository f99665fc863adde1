"""The policy that tests of the phase machine go by."""

from __future__ import annotations

from ollamad.supervision.policy import RestartPolicy

POLICY = RestartPolicy(
    start_timeout_s=100.0,
    stop_timeout_s=2.0,
    drain_timeout_s=50.0,
    backoff_initial_s=1.0,
    backoff_max_s=8.0,
    backoff_jitter=0.5,
    healthy_after_s=60.0,
    crash_loop_deaths=4,
    crash_loop_window_s=90.0,
    failed_retry_s=200.0,
    runner_grace_s=5.0,
    stuck_window_s=1000.0,
    wedges_max=2,
    quarantine_s=300.0,
)
