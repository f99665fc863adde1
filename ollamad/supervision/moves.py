"""The moves between phases that several events share. Each sets all that the new phase needs: nothing old lingers."""

from __future__ import annotations

from dataclasses import replace

from ollamad.supervision.policy import RestartPolicy, backoff_s
from ollamad.supervision.state import ChildState, Kill, Phase, Spawn, Step, Terminate


def start(state: ChildState, now_s: float, policy: RestartPolicy) -> Step:
    """A new life, unless a quarantine forbids it. There must be no process."""
    if state.quarantine is not None:
        return rest(state), ()
    life = state.life + 1
    starting = replace(
        state,
        phase=Phase.STARTING,
        life=life,
        deadline_s=now_s + policy.start_timeout_s,
        ready_since_s=None,
        asked=False,
        misses=0,
        runner_killed_s=None,
    )
    return starting, (Spawn(life),)


def rest(state: ChildState) -> ChildState:
    """Without a process, and without one to come."""
    return replace(
        state, phase=Phase.STOPPED, deadline_s=state.quarantined_until_s, ready_since_s=None, asked=False, misses=0
    )


def drain(state: ChildState, now_s: float, policy: RestartPolicy) -> Step:
    """Finish what it has, up to a deadline."""
    return replace(state, phase=Phase.DRAINING, deadline_s=now_s + policy.drain_timeout_s), ()


def terminate(state: ChildState, now_s: float, policy: RestartPolicy) -> Step:
    """An end that was asked for."""
    stopping = replace(
        state, phase=Phase.STOPPING, deadline_s=now_s + policy.stop_timeout_s, ready_since_s=None, asked=True
    )
    return stopping, (Terminate(state.life),)


def kill(state: ChildState, reason: str, now_s: float, policy: RestartPolicy) -> Step:
    """An end that is a death: what ails it would not heed a TERM."""
    return kill_again(replace(state, phase=Phase.STOPPING, reason=reason), now_s, policy)


def kill_again(state: ChildState, now_s: float, policy: RestartPolicy) -> Step:
    """The next deadline repeats it: a process in an uninterruptible call can outlive the first."""
    return replace(state, deadline_s=now_s + policy.stop_timeout_s), (Kill(state.life),)


def count_death(state: ChildState, reason: str, now_s: float, policy: RestartPolicy, luck: float) -> Step:
    """It died, though nobody asked: wait, and longer each time, or give it up where it died too often."""
    healthy = state.ready_since_s is not None and now_s - state.ready_since_s >= policy.healthy_after_s
    earlier = () if healthy else tuple(when for when in state.lately_s if now_s - when < policy.crash_loop_window_s)
    lately_s = (*earlier, now_s)[-policy.crash_loop_deaths :]
    died = replace(
        state,
        ready_since_s=None,
        misses=0,
        failures=1 if healthy else state.failures + 1,
        deaths=state.deaths + 1,
        lately_s=lately_s,
        on_trial=state.on_trial and not healthy,
        reason=reason,
    )
    if died.quarantine is not None:
        return rest(died), ()
    if died.on_trial or len(lately_s) >= policy.crash_loop_deaths:
        return _give_up(died, now_s, policy), ()
    wait_s = backoff_s(died.failures, policy, luck)
    if wait_s == 0.0:
        return start(died, now_s, policy)
    return replace(died, phase=Phase.BACKOFF, deadline_s=now_s + wait_s), ()


def _give_up(state: ChildState, now_s: float, policy: RestartPolicy) -> ChildState:
    why = (
        "died again when it was tried again"
        if state.on_trial
        else f"died {len(state.lately_s)} times within {policy.crash_loop_window_s:g} s"
    )
    return replace(
        state,
        phase=Phase.FAILED,
        deadline_s=now_s + policy.failed_retry_s if policy.failed_retry_s else None,
        on_trial=False,
        reason=f"{why}; last: {state.reason}",
    )
