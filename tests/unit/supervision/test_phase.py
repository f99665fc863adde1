from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from ollamad.supervision import phase as phase_module
from ollamad.supervision.phase import step
from ollamad.supervision.state import (
    Action,
    Answered,
    ChildState,
    Drain,
    Event,
    Gone,
    Idle,
    Kill,
    KillRunner,
    Missed,
    MoveWaiting,
    Phase,
    Quarantine,
    Release,
    Reset,
    Restart,
    Spawn,
    Stuck,
    Terminate,
    Tick,
    Unfit,
    Want,
    WantDown,
    WantUp,
)
from tests.unit.supervision.machine import POLICY


def play(*story: tuple[float, Event], state: ChildState | None = None) -> tuple[ChildState, list[Action]]:
    """Tell the machine a story of (time, event); gives where it ends and all that it did."""
    now = state or ChildState()
    done: list[Action] = []
    for when, event in story:
        now, actions = step(now, event, when, POLICY, luck=0.0)
        done += actions
    return now, done


UP = ((0.0, WantUp()), (1.0, Answered(1)))


def test_a_wanted_child_is_spawned_and_is_ready_when_it_answers() -> None:
    state, actions = play(*UP)
    assert (state.phase, state.ready_since_s, state.deadline_s) == (Phase.READY, 1.0, None)
    assert actions == [Spawn(1)]


def test_a_child_that_dies_for_the_first_time_is_started_again_in_the_same_step() -> None:
    state, actions = play(*UP, (5.0, Gone(1, "killed by SIGKILL")))
    assert (state.phase, state.life, state.deaths) == (Phase.STARTING, 2, 1)
    assert actions == [Spawn(1), Spawn(2)]
    assert state.reason == "killed by SIGKILL"


def test_a_child_that_dies_again_waits_out_its_backoff() -> None:
    state, actions = play(*UP, (5.0, Gone(1, "a")), (5.1, Gone(2, "b")), (6.0, Tick()))
    assert (state.phase, state.deadline_s) == (Phase.BACKOFF, 6.1)
    assert actions == [Spawn(1), Spawn(2)]
    state, actions = play((6.1, Tick()), state=state)
    assert (state.phase, actions) == (Phase.STARTING, [Spawn(3)])


def test_a_healthy_time_forgives_earlier_deaths() -> None:
    state, _ = play(*UP, (2.0, Gone(1, "a")), (3.0, Answered(2)), (63.0, Gone(2, "b")))
    assert (state.phase, state.failures, state.deaths, state.lately_s) == (Phase.STARTING, 1, 2, (63.0,))


def test_a_ready_time_shorter_than_that_forgives_nothing() -> None:
    state, _ = play(*UP, (2.0, Gone(1, "a")), (3.0, Answered(2)), (62.9, Gone(2, "b")))
    assert (state.phase, state.failures) == (Phase.BACKOFF, 2)


@pytest.mark.parametrize("when", [1.0, 99.9])
def test_a_child_that_starts_is_given_its_time(when: float) -> None:
    state, actions = play((0.0, WantUp()), (when, Tick()))
    assert (state.phase, actions) == (Phase.STARTING, [Spawn(1)])


def test_a_child_that_is_not_ready_in_time_is_killed_and_started_again_with_the_better_reason() -> None:
    state, actions = play((0.0, WantUp()), (100.0, Tick()))
    assert (state.phase, actions) == (Phase.STOPPING, [Spawn(1), Kill(1)])
    state, actions = play((100.5, Gone(1, "killed by SIGKILL")), state=state)
    assert (state.phase, state.reason) == (Phase.STARTING, "not ready 100 s after its start")


def test_an_unwanted_child_is_asked_to_stop_then_killed_and_killed_again() -> None:
    state, actions = play(*UP, (10.0, WantDown()), (11.9, Tick()), (12.0, Tick()), (14.0, Tick()))
    assert actions == [Spawn(1), Terminate(1), Kill(1), Kill(1)]
    state, actions = play((15.0, Gone(1, "killed by SIGKILL")), state=state)
    assert (state.phase, state.deaths, actions) == (Phase.STOPPED, 0, [])


def test_a_child_wanted_again_while_it_stops_comes_back_when_it_is_gone() -> None:
    state, actions = play(*UP, (10.0, WantDown()), (10.1, WantUp()), (11.0, Gone(1, "exited with status 0")))
    assert (state.phase, state.want, actions[-1]) == (Phase.STARTING, Want.UP, Spawn(2))


def test_a_child_in_backoff_that_is_no_longer_wanted_stays_down() -> None:
    state, actions = play(*UP, (2.0, Gone(1, "a")), (2.1, Gone(2, "b")), (2.2, WantDown()), (99.0, Tick()))
    assert (state.phase, state.deadline_s, actions) == (Phase.STOPPED, None, [Spawn(1), Spawn(2)])


def test_a_ready_child_that_leaves_probes_unanswered_is_ended_and_started_again_with_the_reason() -> None:
    state, actions = play(*UP, (2.0, Missed(1)), (3.0, Missed(1)))
    assert (state.phase, actions) == (Phase.READY, [Spawn(1), MoveWaiting(1), MoveWaiting(1)])
    state, actions = play((4.0, Missed(1)), state=state)
    assert (state.phase, actions) == (Phase.STOPPING, [Kill(1)])
    state, actions = play((4.1, Gone(1, "killed by SIGKILL")), state=state)
    assert (state.phase, state.reason) == (Phase.STARTING, "alive, but did not answer 3 probes in a row")


def test_an_answer_forgives_the_probes_missed_before_it() -> None:
    state, actions = play(*UP, (2.0, Missed(1)), (3.0, Missed(1)), (4.0, Answered(1)), (5.0, Missed(1)))
    assert (state.phase, state.misses, actions[-1]) == (Phase.READY, 1, MoveWaiting(1))


def test_what_waits_is_moved_after_as_many_probes_as_is_set_and_never_where_none_is() -> None:
    missed = ((2.0, Missed(1)), (3.0, Missed(1)))
    for after, moves in ((0, 0), (1, 2), (2, 1), (3, 0)):
        policy = replace(POLICY, move_after_misses=after)
        state, actions = ChildState(), list[Action]()
        for when, event in (*UP, *missed):
            state, more = step(state, event, when, policy, luck=0.0)
            actions += more
        assert actions == [Spawn(1), *[MoveWaiting(1)] * moves]


def test_a_successor_starts_with_no_probes_missed() -> None:
    state, _ = play(*UP, (2.0, Missed(1)), (2.5, Missed(1)), (3.0, Gone(1, "a")), (4.0, Answered(2)), (5.0, Missed(2)))
    assert (state.phase, state.misses) == (Phase.READY, 1)


@pytest.mark.parametrize("event", [Answered(1), Missed(1), Gone(1, "late news")])
def test_news_of_a_dead_life_does_not_touch_its_successor(event: Event) -> None:
    state, _ = play(*UP, (2.0, Gone(1, "a")))
    assert play((3.0, event), state=state) == (state, [])


def test_a_child_wanted_again_while_it_stops_was_asked_to_and_has_not_died() -> None:
    state, _ = play(*UP, (10.0, WantDown()), (10.1, WantUp()), (11.0, Gone(1, "exited with status 0")))
    assert (state.deaths, state.failures, state.reason) == (0, 0, None)


def test_a_drained_child_takes_nothing_new_stops_when_it_is_idle_and_stays_down() -> None:
    state, actions = play(*UP, (10.0, Drain()))
    assert (state.phase, state.want, state.deadline_s, actions) == (Phase.DRAINING, Want.DOWN, 60.0, [Spawn(1)])
    state, actions = play((20.0, Idle(1)), (21.0, Gone(1, "exited with status 0")), (999.0, Tick()), state=state)
    assert (state.phase, state.deaths, actions) == (Phase.STOPPED, 0, [Terminate(1)])


def test_a_drain_that_takes_too_long_cuts_what_still_streams() -> None:
    state, actions = play(*UP, (10.0, Drain()), (59.9, Tick()), (60.0, Tick()))
    assert (state.phase, actions) == (Phase.STOPPING, [Spawn(1), Terminate(1)])


def test_a_drain_asked_for_twice_cuts_nothing_and_puts_nothing_off() -> None:
    state, _ = play(*UP, (10.0, Drain()))
    assert play((20.0, Drain()), state=state) == (state, [])


def test_a_drain_taken_back_in_time_costs_no_process() -> None:
    state, actions = play(*UP, (10.0, Drain()), (11.0, WantUp()), (500.0, Tick()), (501.0, Idle(1)))
    assert (state.phase, state.want, state.ready_since_s, actions) == (Phase.READY, Want.UP, 1.0, [Spawn(1)])


@pytest.mark.parametrize("story", [(), ((2.0, Gone(1, "a")), (2.1, Gone(2, "b")))])
def test_a_child_that_serves_nobody_is_drained_at_once(story: tuple[tuple[float, Event], ...]) -> None:
    state, _ = play((0.0, WantUp()), *story, (3.0, Drain()), (3.5, Gone(1, "exited with status 0")))
    assert (state.phase, state.want) == (Phase.STOPPED, Want.DOWN)


def test_a_restart_drains_first_and_is_neither_a_death_nor_a_wait() -> None:
    state, actions = play(*UP, (10.0, Restart()), (20.0, Idle(1)), (21.0, Gone(1, "exited with status 0")))
    assert (state.phase, state.life, state.deaths, state.failures) == (Phase.STARTING, 2, 0, 0)
    assert actions == [Spawn(1), Terminate(1), Spawn(2)]


def test_a_restart_of_a_child_that_waits_starts_it_now_and_of_a_drained_one_does_nothing() -> None:
    waits = play(*UP, (2.0, Gone(1, "a")), (2.1, Gone(2, "b")), (2.2, Restart()))
    assert (waits[0].phase, waits[1][-1]) == (Phase.STARTING, Spawn(3))
    drained, _ = play(*UP, (2.0, WantDown()), (2.1, Gone(1, "a")))
    assert play((3.0, Restart()), state=drained) == (drained, [])


def test_a_child_that_dies_while_it_drains_for_a_restart_has_died() -> None:
    state, _ = play(*UP, (10.0, Restart()), (20.0, Gone(1, "killed by SIGSEGV")))
    assert (state.phase, state.deaths, state.reason) == (Phase.STARTING, 1, "killed by SIGSEGV")


LOOP = (
    *UP,
    (2.0, Gone(1, "a")),
    (2.1, Gone(2, "b")),
    (4.0, Tick()),
    (4.1, Gone(3, "c")),
    (7.0, Tick()),
    (7.1, Gone(4, "d")),
)


def test_a_child_that_dies_too_often_fails_with_the_reason_and_stays_so() -> None:
    state, actions = play(*LOOP, (207.0, Tick()))
    assert (state.phase, state.deadline_s, state.deaths) == (Phase.FAILED, 207.1, 4)
    assert state.reason == "died 4 times within 90 s; last: d"
    assert actions == [Spawn(1), Spawn(2), Spawn(3), Spawn(4)]


def test_a_failed_child_is_tried_again_slowly_and_one_death_sends_it_back() -> None:
    state, actions = play(*LOOP, (207.1, Tick()))
    assert (state.phase, actions[-1]) == (Phase.STARTING, Spawn(5))
    state, actions = play((209.0, Answered(5)), (230.0, Gone(5, "e")), state=state)
    assert (state.phase, state.reason, actions) == (
        Phase.FAILED,
        "died again when it was tried again; last: e",
        [],
    )


def test_a_failed_child_that_lives_well_when_tried_again_is_like_any_other() -> None:
    state, _ = play(*LOOP, (207.1, Tick()), (208.0, Answered(5)), (268.0, Gone(5, "e")))
    assert (state.phase, state.failures, state.on_trial) == (Phase.STARTING, 1, False)


@pytest.mark.parametrize("when", [92.0, 150.0])
def test_deaths_long_ago_are_no_crash_loop(when: float) -> None:
    state, _ = play(*LOOP[:-1], (when, Gone(4, "d")))
    assert state.phase is Phase.BACKOFF


def test_never_means_that_a_failed_child_waits_for_a_reset() -> None:
    never = replace(POLICY, failed_retry_s=0.0)
    state = ChildState()
    for when, event in LOOP:
        state, _ = step(state, event, when, never, 0.0)
    assert (state.phase, state.deadline_s) == (Phase.FAILED, None)
    assert step(state, Tick(), 1e9, never, 0.0) == (state, ())


def test_a_reset_starts_a_failed_child_at_once_with_a_clean_record() -> None:
    state, _ = play(*LOOP)
    state, actions = play((10.0, Reset()), (10.1, Gone(5, "e")), state=state)
    assert (state.phase, state.failures, state.lately_s, actions) == (
        Phase.STARTING,
        1,
        (10.1,),
        [Spawn(5), Spawn(6)],
    )


def test_a_reset_does_not_start_what_is_not_wanted() -> None:
    state, actions = play(*LOOP, (8.0, Drain()), (9.0, Reset()))
    assert (state.phase, actions[-1]) == (Phase.STOPPED, Spawn(4))


STUCK = Stuck(1, "m", "no token for 60 s")


def test_a_stuck_child_loses_its_runner_first_and_gets_time_to_recover() -> None:
    state, actions = play(*UP, (10.0, STUCK), (14.9, STUCK))
    assert (state.phase, state.deaths, actions) == (Phase.READY, 0, [Spawn(1), KillRunner(1, "m", "no token for 60 s")])


def test_a_child_that_is_stuck_again_is_killed_and_started_again() -> None:
    state, actions = play(*UP, (10.0, STUCK), (15.0, STUCK), (15.1, Gone(1, "killed by SIGKILL")))
    assert (state.phase, state.deaths) == (Phase.STARTING, 1)
    assert state.reason == "stuck again after its runner was killed: no token for 60 s"
    assert actions == [Spawn(1), KillRunner(1, "m", "no token for 60 s"), Kill(1), Spawn(2)]


def test_a_runner_that_is_stuck_once_in_a_while_is_only_ever_killed_itself() -> None:
    _, actions = play(*UP, (10.0, STUCK), (1010.0, STUCK))
    assert actions == [Spawn(1), KillRunner(1, "m", "no token for 60 s"), KillRunner(1, "m", "no token for 60 s")]


def wedge(state: ChildState, at_s: float) -> ChildState:
    """Ready, stuck, and stuck again until it is gone."""
    life = state.life
    stuck = Stuck(life, None, "stuck")
    story = ((at_s, Answered(life)), (at_s + 1, stuck), (at_s + 9, stuck), (at_s + 9.5, Gone(life, "killed")))
    return play(*story, state=state)[0]


def test_a_child_that_wedges_again_and_again_is_quarantined_for_a_while() -> None:
    state = wedge(wedge(play((0.0, WantUp()))[0], 10.0), 100.0)
    assert (state.phase, state.want, state.deadline_s) == (Phase.STOPPED, Want.UP, 409.0)
    assert state.quarantine == "stuck for good 2 times within 1000 s; last: stuck"
    state, actions = play((200.0, Release()), (408.0, Tick()), (409.0, Tick()), state=state)
    assert (state.phase, state.quarantine, actions) == (Phase.STARTING, None, [Spawn(3)])
    assert wedge(state, 410.0).quarantine is None, "it begins anew"


def test_a_child_that_wedges_once_in_a_while_keeps_its_gpu() -> None:
    assert wedge(wedge(play((0.0, WantUp()))[0], 10.0), 1010.0).quarantine is None


def test_a_gpu_that_ails_during_a_quarantine_for_being_stuck_has_to_be_well_for_the_next_start() -> None:
    state = wedge(wedge(play((0.0, WantUp()))[0], 10.0), 100.0)
    state, actions = play((200.0, Quarantine("ECC", at_once=True)), (500.0, Tick()), state=state)
    assert (state.phase, state.quarantine, state.deadline_s, actions) == (Phase.STOPPED, "ECC", None, [])
    assert play((501.0, Release()), state=state)[1] == [Spawn(3)]


def test_a_child_that_is_stuck_for_good_on_a_gpu_that_ails_waits_for_the_gpu_and_not_for_a_time() -> None:
    state, _ = play((10.0, Answered(2)), state=wedge(play((0.0, WantUp()))[0], 5.0))
    state, _ = play((20.0, Quarantine("ECC", at_once=False)), state=state)
    assert state.phase is Phase.DRAINING
    state, _ = play((30.0, Stuck(2, None, "x")), (40.0, Stuck(2, None, "x")), (41.0, Gone(2, "killed")), state=state)
    assert (state.phase, state.quarantine, state.deadline_s) == (Phase.STOPPED, "ECC", None)
    assert play((900.0, Release()), state=state)[1] == [Spawn(3)]


def test_a_child_in_quarantine_comes_back_at_once_when_it_is_reset() -> None:
    state = wedge(wedge(play((0.0, WantUp()))[0], 10.0), 100.0)
    state, actions = play((200.0, Reset()), state=state)
    assert (state.phase, state.quarantine, actions) == (Phase.STARTING, None, [Spawn(3)])


def test_a_gpu_that_ails_has_its_child_drained_and_held_until_it_is_well() -> None:
    state, actions = play(*UP, (10.0, Quarantine("ECC", at_once=False)), (10.5, WantUp()), (11.0, Release()))
    assert (state.phase, actions) == (Phase.DRAINING, [Spawn(1)])
    ill, actions = play(
        *UP, (10.0, Quarantine("ECC", at_once=False)), (12.0, Idle(1)), (13.0, Gone(1, "x")), (14.0, WantUp())
    )
    assert (ill.phase, ill.want, ill.quarantine, ill.deaths) == (Phase.STOPPED, Want.UP, "ECC", 0)
    assert actions == [Spawn(1), Terminate(1)]
    well, actions = play((500.0, Release()), state=ill)
    assert (well.phase, well.quarantine, actions) == (Phase.STARTING, None, [Spawn(2)])


def test_a_gpu_that_is_lost_stops_its_child_at_once_and_no_death_is_counted() -> None:
    state, actions = play(*UP, (10.0, Quarantine("lost", at_once=True)), (11.0, Gone(1, "exited with status 0")))
    assert (state.phase, state.deaths, actions) == (Phase.STOPPED, 0, [Spawn(1), Terminate(1)])


def test_a_gpu_that_ails_leaves_its_child_the_drain_that_it_is_in() -> None:
    state, _ = play(*UP, (10.0, Drain()))
    ailing, actions = play((11.0, Quarantine("ECC", at_once=False)), state=state)
    assert (ailing, actions) == (replace(state, quarantine="ECC"), [])


def test_a_gpu_that_gets_worse_while_its_child_drains_stops_it() -> None:
    worse = (11.0, Quarantine("lost", at_once=True))
    state, actions = play(*UP, (10.0, Quarantine("ECC", at_once=False)), worse)
    assert (state.phase, state.quarantine, actions[-1]) == (Phase.STOPPING, "lost", Terminate(1))


def test_a_child_that_is_unfit_is_killed_and_it_counts_as_a_death() -> None:
    state, actions = play(*UP, (10.0, Unfit(1, "runs on the CPU")), (10.1, Gone(1, "killed by SIGKILL")))
    assert (state.deaths, state.reason, actions[1]) == (1, "runs on the CPU", Kill(1))


def test_a_child_can_be_found_unfit_before_it_is_ready() -> None:
    state, actions = play((0.0, WantUp()), (1.0, Unfit(1, "runs on the CPU")))
    assert (state.phase, actions) == (Phase.STOPPING, [Spawn(1), Kill(1)])


def test_an_answer_of_a_child_that_is_being_ended_changes_nothing() -> None:
    state, _ = play(*UP, (2.0, Missed(1)), (3.0, Missed(1)), (4.0, Missed(1)))
    assert play((4.1, Answered(1)), state=state) == (state, [])


LATER_S = 5_000.0
STORIES: dict[str, tuple[tuple[float, Event], ...]] = {
    "too many deaths": LOOP,
    "stuck again": (*UP, (10.0, STUCK), (15.0, STUCK)),
    "stuck again too early": (*UP, (10.0, STUCK), (14.9, STUCK)),
    "a long way to ready": ((0.0, WantUp()), (99.0, Tick())),
    "an end that takes long": (*UP, (10.0, WantDown()), (12.0, Tick()), (13.0, Tick()), (14.0, Tick())),
}


@pytest.mark.parametrize("name", STORIES)
def test_what_happens_does_not_depend_on_how_long_the_daemon_has_run(name: str) -> None:
    state, actions = play(*STORIES[name])
    later, the_same = play(*((LATER_S + when, event) for when, event in STORIES[name]))
    assert (later.phase, later.life, the_same) == (state.phase, state.life, actions)
    assert later.deadline_s == (None if state.deadline_s is None else pytest.approx(state.deadline_s + LATER_S))


def test_wedges_count_together_however_long_the_daemon_has_run() -> None:
    state, _ = play((LATER_S, WantUp()))
    assert wedge(wedge(state, LATER_S + 10), LATER_S + 100).quarantine is not None


NOW = 20.0
BASE = ChildState(Want.UP, life=1, failures=5)
SITUATIONS: dict[str, list[ChildState]] = {
    "stopped": [
        replace(BASE, want=Want.DOWN),
        replace(BASE, quarantine="x"),
        replace(BASE, quarantine="x", quarantined_until_s=10.0, deadline_s=10.0),
        replace(BASE, want=Want.DOWN, quarantine="x", quarantined_until_s=10.0, deadline_s=10.0),
    ],
    "starting": [replace(BASE, phase=Phase.STARTING, deadline_s=10.0, on_trial=trial) for trial in (False, True)],
    "ready": [
        replace(BASE, phase=Phase.READY, ready_since_s=0.0),
        replace(BASE, phase=Phase.READY, ready_since_s=0.0, misses=2),
        replace(BASE, phase=Phase.READY, ready_since_s=0.0, misses=2, runner_killed_s=1.0),
    ],
    "draining": [
        replace(
            BASE,
            phase=Phase.DRAINING,
            want=want,
            deadline_s=10.0,
            ready_since_s=0.0,
            misses=misses,
            runner_killed_s=killed_s,
        )
        for misses in (0, 2)
        for want in Want
        for killed_s in (None, 1.0)
    ],
    "stopping": [
        replace(
            BASE,
            phase=Phase.STOPPING,
            want=want,
            asked=asked,
            deadline_s=10.0,
            ready_since_s=None if asked else 0.0,
            misses=2,
            runner_killed_s=1.0,
        )
        for want in Want
        for asked in (True, False)
    ],
    "backoff": [replace(BASE, phase=Phase.BACKOFF, deadline_s=10.0)],
    "failed": [replace(BASE, phase=Phase.FAILED, deadline_s=10.0)],
}
EVENTS_OF_EACH_KIND: tuple[Event, ...] = (
    *(WantUp(), WantDown(), Drain(), Restart(), Reset(), Release(), Tick()),
    *(Quarantine("x", at_once=False), Quarantine("x", at_once=True)),
    *(Answered(1), Missed(1), Stuck(1, None, "x"), Unfit(1, "x"), Idle(1), Gone(1, "x")),
)


def test_the_table_in_the_documentation_is_what_the_machine_does() -> None:
    """Every change of phase, and every action, that any event can bring about from every phase; and no more."""
    done = set()
    for phase, states in SITUATIONS.items():
        for state in [*states, *(replace(one, lately_s=(17.0, 18.0, 19.0)) for one in states)]:
            for event in EVENTS_OF_EACH_KIND:
                done |= _changes(state, event)
                if isinstance(event, Gone) and phase not in {"stopped", "backoff", "failed"}:
                    done |= _changes(replace(state, quarantine="x"), event)
    assert done == {(source, *effect) for source, _, *effect in _rows(str(phase_module.__doc__))}


TIMED = {Phase.STARTING, Phase.DRAINING, Phase.STOPPING, Phase.BACKOFF, Phase.FAILED}
ANSWERS = {Phase.READY, Phase.DRAINING}


@pytest.mark.parametrize("phase", SITUATIONS)
@pytest.mark.parametrize("event", EVENTS_OF_EACH_KIND, ids=repr)
def test_nothing_of_the_phase_before_lingers(phase: str, event: Event) -> None:
    for state in SITUATIONS[phase]:
        after, _ = step(state, event, NOW, POLICY, luck=0.0)
        if after == state:
            continue
        timed = after.phase in TIMED or after.quarantined_until_s is not None
        assert (after.deadline_s is not None) == timed
        if after.phase is not state.phase or after.deadline_s != state.deadline_s:
            assert after.deadline_s is None or after.deadline_s > NOW, "a deadline lies ahead"
        assert after.asked <= (after.phase is Phase.STOPPING)
        assert (
            after.ready_since_s is None or after.phase in ANSWERS or (after.phase is Phase.STOPPING and not after.asked)
        )
        assert after.misses == 0 or after.phase in {*ANSWERS, Phase.STOPPING}
        assert after.runner_killed_s is None or after.phase is not Phase.STARTING
        assert after.on_trial is False or after.phase not in {Phase.BACKOFF, Phase.FAILED}
        assert after.quarantined_until_s is None or after.quarantine is not None


@pytest.mark.parametrize("phase", SITUATIONS)
def test_a_reset_forgives_all_whatever_the_phase(phase: str) -> None:
    for state in SITUATIONS[phase]:
        marked = replace(state, quarantine="x", lately_s=(1.0,), wedged_s=(2.0,), on_trial=True)
        after, _ = step(marked, Reset(), NOW, POLICY, luck=0.0)
        assert (after.failures, after.lately_s, after.wedged_s, after.quarantine) == (0, (), (), None)
        assert after.on_trial is False


def _changes(state: ChildState, event: Event) -> set[tuple[str, ...]]:
    after, actions = step(state, event, NOW, POLICY, luck=0.0)
    if after.phase is state.phase and not actions:
        return set()
    return {(state.phase.value, after.phase.value, *(type(action).__name__.lower() for action in actions))}


def test_the_page_on_supervision_has_the_same_table() -> None:
    page = Path(__file__).parents[3].joinpath("docs", "SUPERVISION.md").read_text(encoding="utf-8")
    assert _rows(page) == _rows(str(phase_module.__doc__))


def _rows(text: str) -> list[tuple[str, ...]]:
    lines = text[text.index("    from  ") :].partition("\n\n")[0].splitlines()[1:]
    rows: list[tuple[str, ...]] = []
    for line in lines:
        sources, event, target, *doing = re.split(r"\s{2,}", line.strip())
        words = [word.split(",")[0] for word in doing]
        rows += [(source, event, target, *words) for source in sources.split(", ")]
    return rows
