"""A child's phase machine: what is true of it, what happened, and so what to do.

    from                       on                        to        doing
    stopped                    want up                   starting  spawn
    stopped                    reset                     starting  spawn
    stopped                    quarantine over           starting  spawn
    starting                   answers                   ready
    starting                   too slow                  stopping  kill
    ready                      drain, restart            draining
    ready                      its gpu ails              draining
    draining                   want up                   ready
    ready                      stuck                     ready     killrunner
    draining                   stuck                     draining  killrunner
    ready, draining            stuck again               stopping  kill
    ready                      misses a probe            ready     movewaiting
    draining                   misses a probe            draining  movewaiting
    ready, draining            misses probes             stopping  kill
    starting, ready, draining  unfit                     stopping  kill
    draining                   idle, deadline            stopping  terminate
    starting, ready, draining  want down                 stopping  terminate
    starting                   drain, restart            stopping  terminate
    starting, ready, draining  its gpu fails             stopping  terminate
    stopping                   deadline                  stopping  kill, again and again
    starting, ready, draining  gone                      backoff
    starting, ready, draining  gone, too often           failed
    starting, ready, draining  gone, in quarantine       stopped
    stopping                   gone, as was asked        starting  spawn
    stopping                   gone, but not asked       backoff
    stopping                   gone, too often           failed
    stopping                   gone, not wanted          stopped
    draining                   gone, not wanted          stopped
    backoff, failed            wait over                 starting  spawn
    backoff, failed            reset, restart            starting  spawn
    backoff, failed            want down, drain          stopped
    backoff, failed            its gpu ails              stopped

`step` is total: every state has an answer to every event. It knows no clock, no process and no randomness: they come
in as arguments and events. `want` is what the operator asked, `phase` what is true; neither is ever derived from the
other.

A life is one process. Events carry the life that they tell of, and news of an older life is dropped, so that what is
heard late of a dead process can't touch its successor. `Gone` is told only when the process *and its whole group* are
gone, and their VRAM with them: a runner that is left behind still holds it.

The first death of a healthy child is followed by a start in the same step; later ones by a wait in `backoff`. A child
that dies too often is `failed`: it is tried again slowly, and given up again at its first death. What is stuck loses
its runner first, then its process, and at last its GPU for a while.
"""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from ollamad.supervision.moves import count_death, drain, kill, kill_again, rest, start, terminate
from ollamad.supervision.policy import RestartPolicy
from ollamad.supervision.state import (
    Answered,
    ChildState,
    Drain,
    Event,
    Gone,
    Idle,
    KillRunner,
    Missed,
    MoveWaiting,
    Phase,
    Quarantine,
    Release,
    Reset,
    Restart,
    Step,
    Stuck,
    Tick,
    Unfit,
    Want,
    WantDown,
    WantUp,
)

_Wish = WantUp | WantDown | Drain | Restart | Reset
_World = Quarantine | Release | Tick
_News = Answered | Missed | Stuck | Unfit | Idle | Gone


def step(state: ChildState, event: Event, now_s: float, policy: RestartPolicy, luck: float) -> Step:
    """The next state, and what to do about it. `luck` in [0, 1) spreads the backoff."""
    if isinstance(event, _Wish):
        return _wished(state, event, now_s, policy)
    if isinstance(event, _World):
        return _happened(state, event, now_s, policy)
    return _heard(state, event, now_s, policy, luck) if event.life == state.life else (state, ())


def _heard(state: ChildState, news: _News, now_s: float, policy: RestartPolicy, luck: float) -> Step:
    match news:
        case Answered():
            return _answered(state, now_s), ()
        case Missed():
            return _missed(state, now_s, policy)
        case Stuck(model=model, reason=reason):
            return _stuck(state, model, reason, now_s, policy)
        case Unfit(reason=reason):
            return kill(state, reason, now_s, policy) if _serves(state, Phase.STARTING) else (state, ())
        case Idle():
            return terminate(state, now_s, policy) if state.phase is Phase.DRAINING else (state, ())
        case Gone(reason=reason):
            return _gone(state, reason, now_s, policy, luck)
    assert_never(news)


def _wished(state: ChildState, wish: _Wish, now_s: float, policy: RestartPolicy) -> Step:
    match wish:
        case WantUp():
            return _want_up(replace(state, want=Want.UP), now_s, policy)
        case WantDown():
            return _want_down(replace(state, want=Want.DOWN), now_s, policy)
        case Drain():
            return _drain(replace(state, want=Want.DOWN), now_s, policy)
        case Restart():
            return _restart(state, now_s, policy)
        case Reset():
            return _reset(state, now_s, policy)
    assert_never(wish)


def _want_up(state: ChildState, now_s: float, policy: RestartPolicy) -> Step:
    if state.phase is Phase.STOPPED:
        return start(state, now_s, policy)
    if state.phase is Phase.DRAINING and state.quarantine is None:
        return replace(state, phase=Phase.READY, deadline_s=None), ()
    return state, ()


def _want_down(state: ChildState, now_s: float, policy: RestartPolicy) -> Step:
    match state.phase:
        case Phase.STARTING | Phase.READY | Phase.DRAINING:
            return terminate(state, now_s, policy)
        case Phase.BACKOFF | Phase.FAILED:
            return rest(state), ()
        case Phase.STOPPED | Phase.STOPPING:
            return state, ()
    assert_never(state.phase)


def _drain(state: ChildState, now_s: float, policy: RestartPolicy) -> Step:
    if state.phase is Phase.READY:
        return drain(state, now_s, policy)
    return (state, ()) if state.phase is Phase.DRAINING else _want_down(state, now_s, policy)


def _restart(state: ChildState, now_s: float, policy: RestartPolicy) -> Step:
    match state.phase:
        case Phase.READY:
            return drain(state, now_s, policy)
        case Phase.STARTING:
            return terminate(state, now_s, policy)
        case Phase.BACKOFF | Phase.FAILED:
            return start(state, now_s, policy)
        case Phase.STOPPED | Phase.DRAINING | Phase.STOPPING:
            return state, ()
    assert_never(state.phase)


def _reset(state: ChildState, now_s: float, policy: RestartPolicy) -> Step:
    forgiven = replace(_free(state), failures=0, lately_s=(), wedged_s=(), on_trial=False)
    waits = state.phase in {Phase.BACKOFF, Phase.FAILED} or (state.phase is Phase.STOPPED and state.want is Want.UP)
    if waits:
        return start(forgiven, now_s, policy)
    return rest(forgiven) if state.phase is Phase.STOPPED else forgiven, ()


def _happened(state: ChildState, event: _World, now_s: float, policy: RestartPolicy) -> Step:
    match event:
        case Quarantine(reason=reason, at_once=at_once):
            barred = replace(state, quarantine=reason, quarantined_until_s=None)
            return _quarantined(barred, now_s, policy, at_once=at_once)
        case Release():
            # A quarantine for being stuck has a time of its own: a GPU that reads well says nothing about it.
            ended = state.quarantine is not None and state.quarantined_until_s is None
            return _released(_free(state), now_s, policy) if ended else (state, ())
        case Tick():
            due = state.deadline_s is not None and now_s >= state.deadline_s
            return _timed_out(state, now_s, policy) if due else (state, ())
    assert_never(event)


def _quarantined(state: ChildState, now_s: float, policy: RestartPolicy, *, at_once: bool) -> Step:
    match state.phase:
        case Phase.READY if not at_once:
            return drain(state, now_s, policy)
        case Phase.DRAINING if not at_once:
            return state, ()
        case Phase.STARTING | Phase.READY | Phase.DRAINING:
            return terminate(state, now_s, policy)
        case Phase.STOPPING:
            return state, ()
        case Phase.STOPPED | Phase.BACKOFF | Phase.FAILED:
            return rest(state), ()
    assert_never(state.phase)


def _released(state: ChildState, now_s: float, policy: RestartPolicy) -> Step:
    if state.phase is Phase.STOPPED and state.want is Want.UP:
        return start(state, now_s, policy)
    return state, ()


def _timed_out(state: ChildState, now_s: float, policy: RestartPolicy) -> Step:
    match state.phase:
        case Phase.STARTING:
            return kill(state, f"not ready {policy.start_timeout_s:g} s after its start", now_s, policy)
        case Phase.DRAINING:
            return terminate(state, now_s, policy)
        case Phase.STOPPING:
            return kill_again(state, now_s, policy)
        case Phase.BACKOFF:
            return start(state, now_s, policy)
        case Phase.FAILED:
            return start(replace(state, on_trial=True), now_s, policy)
        case Phase.STOPPED | Phase.READY:
            return _released(replace(_free(state), deadline_s=None), now_s, policy)
    assert_never(state.phase)


def _answered(state: ChildState, now_s: float) -> ChildState:
    if state.phase is Phase.STARTING:
        return replace(state, phase=Phase.READY, ready_since_s=now_s, deadline_s=None, misses=0)
    return replace(state, misses=0) if _serves(state) else state


def _missed(state: ChildState, now_s: float, policy: RestartPolicy) -> Step:
    if not _serves(state):
        return state, ()
    silent = replace(state, misses=state.misses + 1)
    if silent.misses < policy.misses_max:
        moves = 0 < policy.move_after_misses <= silent.misses
        return silent, (MoveWaiting(state.life),) if moves else ()
    return kill(silent, f"alive, but did not answer {silent.misses} probes in a row", now_s, policy)


def _stuck(state: ChildState, model: str | None, reason: str, now_s: float, policy: RestartPolicy) -> Step:
    """First its runner, then the child, then its GPU: each is tried only once the one before did not help."""
    if not _serves(state):
        return state, ()
    killed_s = state.runner_killed_s
    if killed_s is None or now_s - killed_s >= policy.stuck_window_s:
        return replace(state, runner_killed_s=now_s), (KillRunner(state.life, model, reason),)
    if now_s - killed_s < policy.runner_grace_s:
        return state, ()
    wedged_s = (*(when for when in state.wedged_s if now_s - when < policy.stuck_window_s), now_s)
    wedged = replace(state, wedged_s=wedged_s[-policy.wedges_max :])
    why = f"stuck again after its runner was killed: {reason}"
    if len(wedged_s) >= policy.wedges_max and state.quarantine is None:  # a GPU that ails holds it longer
        until_s = now_s + policy.quarantine_s
        barred = f"stuck for good {len(wedged_s)} times within {policy.stuck_window_s:g} s; last: {reason}"
        wedged = replace(wedged, wedged_s=(), quarantine=barred, quarantined_until_s=until_s)
    return kill(wedged, why, now_s, policy)


def _gone(state: ChildState, reason: str, now_s: float, policy: RestartPolicy, luck: float) -> Step:
    if state.phase in {Phase.STOPPED, Phase.BACKOFF, Phase.FAILED}:
        return state, ()
    if state.want is Want.DOWN:
        return rest(state), ()
    if state.asked:
        return start(state, now_s, policy)
    # What we ended for a fault of its own is STOPPING and carries that reason already: the better one to tell.
    why = state.reason if state.phase is Phase.STOPPING and state.reason else reason
    return count_death(state, why, now_s, policy, luck)


def _serves(state: ChildState, *also: Phase) -> bool:
    return state.phase in {Phase.READY, Phase.DRAINING, *also}


def _free(state: ChildState) -> ChildState:
    return replace(state, quarantine=None, quarantined_until_s=None)
