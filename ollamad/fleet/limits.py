"""The configuration's limits as the pure rooms take them."""

from __future__ import annotations

from ollamad.config.schema import Config
from ollamad.supervision.policy import RestartPolicy
from ollamad.supervision.progress import Patience


def restart_policy(config: Config) -> RestartPolicy:
    """When a child is started, stopped and given up."""
    supervision = config.supervision
    return RestartPolicy(
        start_timeout_s=config.ollama.start_timeout_s,
        stop_timeout_s=config.ollama.stop_timeout_s,
        drain_timeout_s=supervision.drain_timeout_s,
        backoff_initial_s=supervision.backoff_initial_s,
        backoff_max_s=supervision.backoff_max_s,
        backoff_jitter=supervision.backoff_jitter,
        healthy_after_s=supervision.healthy_after_s,
        misses_max=supervision.misses_max,
        move_after_misses=supervision.move_after_misses,
        crash_loop_deaths=supervision.crash_loop_deaths,
        crash_loop_window_s=supervision.crash_loop_window_s,
        failed_retry_s=supervision.failed_retry_s,
        runner_grace_s=supervision.runner_grace_s,
        stuck_window_s=supervision.stuck_window_s,
        wedges_max=supervision.wedges_max,
        quarantine_s=supervision.quarantine_s,
    )


def patience(config: Config) -> Patience:
    """When silence is a hang."""
    supervision = config.supervision
    return Patience(
        stream_s=supervision.stream_stall_s,
        first_byte_s=supervision.first_byte_stall_s,
        busy_s=supervision.busy_stall_s,
        load_s=supervision.load_stall_s,
        stopping_s=supervision.stopping_stall_s,
        ps_s=supervision.ps_stall_s,
    )
