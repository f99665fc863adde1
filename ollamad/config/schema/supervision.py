"""`[supervision]`: when children are restarted, and what counts as a hang."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from ollamad.config.schema.kinds import Seconds, SecondsOrNone


class Supervision(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a child that died is started again, and how it is looked after."""

    backoff_initial_s: Annotated[
        Seconds,
        Meta(description="Wait before the second restart in a row; the first is at once, then it doubles."),
    ] = 0.5
    backoff_max_s: Annotated[Seconds, Meta(description="It never waits longer than this.")] = 60.0
    backoff_jitter: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description="Share of each wait that is random, so that children don't restart in step.",
        ),
    ] = 0.25
    healthy_after_s: Annotated[
        Seconds, Meta(description="Ready for this long, a child's earlier deaths are forgotten.")
    ] = 60.0
    crash_loop_deaths: Annotated[
        int,
        Meta(
            ge=1,
            le=1000,
            description="A child that dies this often within crash_loop_window_s is failed: its siblings serve, it is left alone.",
        ),
    ] = 5
    crash_loop_window_s: Annotated[
        Seconds, Meta(description="How far back deaths are counted for crash_loop_deaths.")
    ] = 120.0
    failed_retry_s: Annotated[
        SecondsOrNone,
        Meta(
            description="A failed child is tried again this long after; 0 for never, until it is reset by `ollamactl reset`."
        ),
    ] = 300.0
    drain_timeout_s: Annotated[
        Seconds,
        Meta(description="A child that drains may finish its streams for this long; then they are cut."),
    ] = 300.0
    probe_interval_s: Annotated[
        Seconds, Meta(description="How often a starting child is asked whether it is ready.")
    ] = 0.05
    probe_timeout_s: Annotated[Seconds, Meta(description="How long one such question may take.")] = 5.0
    misses_max: Annotated[
        int,
        Meta(
            ge=1,
            le=1000,
            description="A ready child that leaves this many probes in a row unanswered is ended and started again.",
        ),
    ] = 3
    move_after_misses: Annotated[
        int,
        Meta(
            ge=0,
            le=1000,
            description="What a child has not begun to answer is sent to another one after this many, where one takes requests; 0: only when it is ended. A long prompt or load is no reason: probes are answered meanwhile.",
        ),
    ] = 1
    resident_interval_s: Annotated[
        Seconds,
        Meta(
            description="How often a busy child is asked whether it lives and what it has loaded; old Ollamas can crash when asked faster than 1 s."
        ),
    ] = 1.0
    idle_interval_s: Annotated[
        Seconds, Meta(description="The same for a child that has had nothing to do for a while.")
    ] = 5.0
    stream_stall_s: Annotated[
        Seconds,
        Meta(
            description="A stream that has begun and is silent for this long, or ten times the model's usual pause, is stuck: its runner is killed."
        ),
    ] = 60.0
    first_byte_stall_s: Annotated[
        Seconds,
        Meta(
            description="So is a request for a loaded model that has not begun for this long, while the GPU does nothing."
        ),
    ] = 300.0
    busy_stall_s: Annotated[
        Seconds,
        Meta(
            description="The same while the GPU is busy or unknown: a long prompt, or a long answer without streaming, is no hang."
        ),
    ] = 3600.0
    load_stall_s: Annotated[
        Seconds, Meta(description="A load that takes longer is stuck; Ollama gives one up by itself at load_timeout_s.")
    ] = 900.0
    stopping_stall_s: Annotated[
        Seconds, Meta(description='A model that nobody uses and that is "Stopping..." for this long is stuck.')
    ] = 60.0
    ps_stall_s: Annotated[
        Seconds, Meta(description="A child whose /api/ps is not answered for this long is stuck.")
    ] = 60.0
    runner_grace_s: Annotated[
        Seconds,
        Meta(description="After its runner was killed, a child has this long to recover before it is killed itself."),
    ] = 10.0
    stuck_window_s: Annotated[
        Seconds,
        Meta(description="Stuck twice within this, a child is killed; this is also how long that is remembered."),
    ] = 1800.0
    wedges_max: Annotated[
        int,
        Meta(
            ge=1,
            le=100,
            description="Killed this often for being stuck within stuck_window_s, a child is kept down for quarantine_s.",
        ),
    ] = 3
    quarantine_s: Annotated[
        Seconds, Meta(description="How long a child that is stuck again and again is kept from its GPU.")
    ] = 600.0
    vram_wait_s: Annotated[
        SecondsOrNone,
        Meta(
            description="After a death the next start waits this long at most for the driver to show the GPU's memory freed."
        ),
    ] = 10.0
    rolling_ready_min: Annotated[
        int,
        Meta(ge=0, le=64, description="A rolling restart never leaves fewer children ready than this."),
    ] = 1
    rolling_reload: Annotated[
        bool, Meta(description="A rolling restart loads again what a child had loaded, before it goes on to the next.")
    ] = True
    lines_kept: Annotated[
        int,
        Meta(ge=0, le=100_000, description="How many of a child's last output lines `ollamactl logs` can show."),
    ] = 500
