from __future__ import annotations

import itertools
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ollamad.supervision import phase as phase_module
from ollamad.supervision.phase import step
from ollamad.supervision.policy import RestartPolicy
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
    assert (state.phase, state.failures, state.deaths) == (Phase.STARTING, 1, 2)


def test_a_ready_time_shorter_than_that_forgives_nothing() -> None:
    state, _ = play(*UP, (2.0, Gone(1, "a")), (3.0, Answered(2)), (62.9, Gone(2, "b")))
    assert (state.phase, state.failures) == (Phase.BACKOFF, 2)


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
    assert (state.phase, actions) == (Phase.READY, [Spawn(1)])
    state, actions = play((4.0, Missed(1)), state=state)
    assert (state.phase, actions) == (Phase.STOPPING, [Kill(1)])
    state, actions = play((4.1, Gone(1, "killed by SIGKILL")), state=state)
    assert (state.phase, state.reason) == (Phase.STARTING, "alive, but did not answer 3 probes in a row")


def test_an_answer_forgives_the_probes_missed_before_it() -> None:
    state, actions = play(*UP, (2.0, Missed(1)), (3.0, Missed(1)), (4.0, Answered(1)), (5.0, Missed(1)))
    assert (state.phase, state.misses, actions) == (Phase.READY, 1, [Spawn(1)])


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


def test_deaths_long_ago_are_no_crash_loop() -> None:
    state, _ = play(*LOOP[:-1], (150.0, Gone(4, "d")))
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


def test_a_gpu_that_gets_worse_while_its_child_drains_stops_it() -> None:
    worse = (11.0, Quarantine("lost", at_once=True))
    state, actions = play(*UP, (10.0, Quarantine("ECC", at_once=False)), worse)
    assert (state.phase, state.quarantine, actions[-1]) == (Phase.STOPPING, "lost", Terminate(1))


def test_a_child_that_is_unfit_is_killed_and_it_counts_as_a_death() -> None:
    state, actions = play(*UP, (10.0, Unfit(1, "runs on the CPU")), (10.1, Gone(1, "killed by SIGKILL")))
    assert (state.deaths, state.reason, actions[1]) == (1, "runs on the CPU", Kill(1))


EVENTS = st.one_of(
    st.just(WantUp()),
    st.just(WantDown()),
    st.just(Drain()),
    st.just(Restart()),
    st.just(Reset()),
    st.just(Tick()),
    st.just(Release()),
    st.builds(Quarantine, st.just("ill"), st.booleans()),
    st.builds(Answered, st.integers(0, 4)),
    st.builds(Missed, st.integers(0, 4)),
    st.builds(Idle, st.integers(0, 4)),
    st.builds(Stuck, st.integers(0, 4), st.none(), st.just("x")),
    st.builds(Unfit, st.integers(0, 4), st.just("x")),
    st.builds(Gone, st.integers(0, 4), st.just("x")),
)
TIMED = {Phase.STARTING, Phase.DRAINING, Phase.STOPPING, Phase.BACKOFF, Phase.FAILED}


@given(st.lists(st.tuples(st.floats(0, 50), EVENTS), max_size=60))
def test_every_history_has_an_answer_and_its_deadlines_fit_its_phase(history: list[tuple[float, Event]]) -> None:
    state, now = ChildState(), 0.0
    for pause, event in history:
        now += pause
        state, _ = step(state, event, now, POLICY, luck=0.5)
        assert (state.deadline_s is not None) == (state.phase in TIMED or state.quarantined_until_s is not None)
        assert (state.ready_since_s is not None) <= (state.phase in {Phase.READY, Phase.DRAINING, Phase.STOPPING})
        assert len(state.lately_s) <= POLICY.crash_loop_deaths
        assert len(state.wedged_s) <= POLICY.wedges_max
        assert state.asked <= (state.phase is Phase.STOPPING)


class Machine(RuleBasedStateMachine):
    """A world that does what the machine says: at most one process, which may die or answer whenever it likes."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.state = ChildState()
        self.alive: int | None = None
        self.asked_to_go = False
        self.not_before_s = 0.0
        """When the last death allows the next start, unless an operator or a GPU intervenes."""

    def tell(self, event: Event) -> None:
        before = self.state
        self.state, actions = step(self.state, event, self.now, POLICY, luck=0.999)
        if isinstance(event, WantUp | Restart | Reset | Release):
            self.not_before_s = self.now
        if self.state.deaths > before.deaths and self.state.failures > 1:
            least = POLICY.backoff_initial_s * (1 - POLICY.backoff_jitter)
            self.not_before_s = self.now + (POLICY.failed_retry_s if self.state.phase is Phase.FAILED else least)
        for action in actions:
            match action:
                case Spawn(life=life):
                    assert self.alive is None, "two processes on one GPU"
                    assert self.state.quarantine is None, "a start on a GPU in quarantine"
                    assert self.now >= self.not_before_s, "faster than the backoff allows"
                    self.alive, self.asked_to_go = life, False
                case Terminate(life=life) | Kill(life=life) | KillRunner(life=life):
                    assert life == self.alive, "a signal for a process that is gone"
                    self.asked_to_go |= not isinstance(action, KillRunner)

    @rule(pause=st.floats(0.01, 30))
    def time_passes(self, pause: float) -> None:
        self.now += pause
        self.tell(Tick())

    @rule(
        wish=st.one_of(
            *map(st.just, (WantUp(), WantDown(), Drain(), Restart(), Reset(), Release())),
            st.builds(Quarantine, st.just("ill"), st.booleans()),
        )
    )
    def somebody_intervenes(self, wish: Event) -> None:
        self.tell(wish)

    @precondition(lambda self: self.alive is not None)
    @rule(kind=st.sampled_from([Answered, Missed, Idle]))
    def it_is_heard_of(self, kind: type[Answered | Missed | Idle]) -> None:
        assert self.alive is not None
        self.tell(kind(self.alive))

    @precondition(lambda self: self.alive is not None)
    @rule(kind=st.sampled_from([Stuck, Unfit]))
    def it_is_found_wanting(self, kind: type[Stuck | Unfit]) -> None:
        assert self.alive is not None
        self.tell(Stuck(self.alive, None, "x") if kind is Stuck else Unfit(self.alive, "x"))

    @precondition(lambda self: self.alive is not None)
    @rule()
    def it_dies(self) -> None:
        assert self.alive is not None
        life, self.alive = self.alive, None
        self.tell(Gone(life, "died"))

    @invariant()
    def a_process_lives_in_its_phases_and_in_no_other(self) -> None:
        live = {Phase.STARTING, Phase.READY, Phase.DRAINING, Phase.STOPPING}
        assert (self.alive is not None) == (self.state.phase in live)

    @invariant()
    def a_child_told_to_stop_never_restarts(self) -> None:
        if self.state.want is Want.DOWN:
            assert self.state.phase in {Phase.STOPPED, Phase.DRAINING, Phase.STOPPING}
            assert self.alive is None or self.asked_to_go or self.state.phase is Phase.DRAINING

    @invariant()
    def a_wanted_child_is_never_lost(self) -> None:
        if self.state.want is Want.UP and self.state.phase not in {Phase.READY, Phase.STOPPED}:
            assert self.state.deadline_s is not None, "nothing would ever happen again"
        if self.state.want is Want.UP and self.state.phase is Phase.STOPPED:
            assert self.state.quarantine is not None, "forgotten"


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)

PATIENT = replace(POLICY, crash_loop_deaths=1000)


@given(st.lists(st.floats(0.0, 5.0), min_size=3, max_size=30))
def test_a_crash_loop_never_spawns_faster_than_the_backoff_allows(lives: list[float]) -> None:
    state, _ = step(ChildState(), WantUp(), 0.0, PATIENT, luck=0.0)
    now, died_at, gaps = 0.0, 0.0, []
    for lived in lives:
        now += lived
        state, actions = step(state, Gone(state.life, "x"), now, PATIENT, luck=0.0)
        died_at = now
        if not actions:
            assert state.deadline_s is not None
            now = state.deadline_s
            state, actions = step(state, Tick(), now, PATIENT, luck=0.0)
        assert actions == (Spawn(state.life),)
        gaps.append(now - died_at)
    expected = [0.0, *itertools.islice(_doubling(), len(gaps) - 1)]
    assert gaps == pytest.approx(expected)


def _doubling() -> itertools.chain[float]:
    return itertools.chain([1.0, 2.0, 4.0], itertools.repeat(8.0))


NOW = 20.0
BASE = ChildState(Want.UP, life=1, failures=5)
SITUATIONS: dict[str, list[ChildState]] = {
    "stopped": [
        replace(BASE, want=Want.DOWN),
        replace(BASE, quarantine="x"),
        replace(BASE, quarantine="x", quarantined_until_s=10.0, deadline_s=10.0),
    ],
    "starting": [replace(BASE, phase=Phase.STARTING, deadline_s=10.0)],
    "ready": [
        replace(BASE, phase=Phase.READY, ready_since_s=0.0, misses=2),
        replace(BASE, phase=Phase.READY, ready_since_s=0.0, misses=2, runner_killed_s=1.0),
    ],
    "draining": [
        replace(BASE, phase=Phase.DRAINING, want=want, deadline_s=10.0, misses=2, runner_killed_s=killed_s)
        for want in Want
        for killed_s in (None, 1.0)
    ],
    "stopping": [
        replace(BASE, phase=Phase.STOPPING, want=want, asked=asked, deadline_s=10.0)
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
