from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ollamad.supervision.phase import step
from ollamad.supervision.state import (
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
        self.ails = False
        """Its GPU, as far as it was told; an operator who resets it says that it does not."""

    def tell(self, event: Event) -> None:
        before = self.state
        if isinstance(event, Quarantine | Release | Reset):
            self.ails = isinstance(event, Quarantine)
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
                    assert not self.ails, "a start on a GPU that has not been said to be well again"
                    assert self.now >= self.not_before_s, "faster than the backoff allows"
                    self.alive, self.asked_to_go = life, False
                case Terminate(life=life) | Kill(life=life) | KillRunner(life=life) | MoveWaiting(life=life):
                    assert life == self.alive, "a signal for a process that is gone"
                    self.asked_to_go |= not isinstance(action, KillRunner | MoveWaiting)

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
