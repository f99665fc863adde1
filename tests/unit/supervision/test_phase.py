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
from ollamad.supervision.backoff import RestartPolicy
from ollamad.supervision.phase import (
    Action,
    Answered,
    ChildState,
    Event,
    Gone,
    Kill,
    Missed,
    Phase,
    Spawn,
    Terminate,
    Tick,
    Want,
    WantDown,
    WantUp,
    step,
)

POLICY = RestartPolicy(
    start_timeout_s=100.0,
    stop_timeout_s=2.0,
    backoff_initial_s=1.0,
    backoff_max_s=8.0,
    backoff_jitter=0.5,
    healthy_after_s=60.0,
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


EVENTS = st.one_of(
    st.just(WantUp()),
    st.just(WantDown()),
    st.just(Tick()),
    st.builds(Answered, st.integers(0, 4)),
    st.builds(Missed, st.integers(0, 4)),
    st.builds(Gone, st.integers(0, 4), st.just("x")),
)


@given(st.lists(st.tuples(st.floats(0, 50), EVENTS), max_size=40))
def test_every_history_has_an_answer_and_its_deadlines_fit_its_phase(history: list[tuple[float, Event]]) -> None:
    state, now = ChildState(), 0.0
    for pause, event in history:
        now += pause
        state, _ = step(state, event, now, POLICY, luck=0.5)
        timed = state.phase in {Phase.STARTING, Phase.STOPPING, Phase.BACKOFF}
        assert (state.deadline_s is not None) == timed
        assert (state.ready_since_s is not None) <= (state.phase in {Phase.READY, Phase.STOPPING})


class Machine(RuleBasedStateMachine):
    """A world that does what the machine says: at most one process, which may die or answer whenever it likes."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.state = ChildState()
        self.alive: int | None = None
        self.asked_to_go = False
        self.recent_spawns: list[float] = []

    def tell(self, event: Event) -> None:
        self.state, actions = step(self.state, event, self.now, POLICY, luck=0.999)
        for action in actions:
            match action:
                case Spawn(life=life):
                    assert self.alive is None, "two processes on one GPU"
                    self.alive, self.asked_to_go = life, False
                    self.recent_spawns.append(self.now)
                case Terminate(life=life) | Kill(life=life):
                    assert life == self.alive, "a signal for a process that is gone"
                    self.asked_to_go = True

    @rule(pause=st.floats(0.01, 30))
    def time_passes(self, pause: float) -> None:
        self.now += pause
        self.tell(Tick())

    @rule()
    def operator_wants_it_up(self) -> None:
        self.tell(WantUp())

    @rule()
    def operator_wants_it_down(self) -> None:
        self.tell(WantDown())

    @precondition(lambda self: self.alive is not None)
    @rule()
    def it_answers(self) -> None:
        assert self.alive is not None
        self.tell(Answered(self.alive))

    @precondition(lambda self: self.alive is not None)
    @rule()
    def it_is_silent(self) -> None:
        assert self.alive is not None
        self.tell(Missed(self.alive))

    @precondition(lambda self: self.alive is not None)
    @rule()
    def it_dies(self) -> None:
        assert self.alive is not None
        life, self.alive = self.alive, None
        self.tell(Gone(life, "died"))

    @invariant()
    def a_process_lives_in_its_phases_and_in_no_other(self) -> None:
        assert (self.alive is not None) == (self.state.phase in {Phase.STARTING, Phase.READY, Phase.STOPPING})

    @invariant()
    def a_child_told_to_stop_never_restarts(self) -> None:
        if self.state.want is Want.DOWN:
            assert self.state.phase in {Phase.STOPPED, Phase.STOPPING}
            assert self.alive is None or self.asked_to_go

    @invariant()
    def a_wanted_child_is_never_lost(self) -> None:
        if self.state.want is Want.UP:
            assert self.state.phase is not Phase.STOPPED
            if self.state.phase is not Phase.READY:
                assert self.state.deadline_s is not None, "nothing would ever happen again"


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


@given(st.lists(st.floats(0.0, 5.0), min_size=3, max_size=30))
def test_a_crash_loop_never_spawns_faster_than_the_backoff_allows(lives: list[float]) -> None:
    state, _ = step(ChildState(), WantUp(), 0.0, POLICY, luck=0.0)
    now, died_at, gaps = 0.0, 0.0, []
    for lived in lives:
        now += lived
        state, actions = step(state, Gone(state.life, "x"), now, POLICY, luck=0.0)
        died_at = now
        if not actions:
            assert state.deadline_s is not None
            now = state.deadline_s
            state, actions = step(state, Tick(), now, POLICY, luck=0.0)
        assert actions == (Spawn(state.life),)
        gaps.append(now - died_at)
    expected = [0.0, *itertools.islice(_doubling(), len(gaps) - 1)]
    assert gaps == pytest.approx(expected)


def _doubling() -> itertools.chain[float]:
    return itertools.chain([1.0, 2.0, 4.0], itertools.repeat(8.0))


PHASES = {
    Phase.STOPPED: ChildState(),
    Phase.STARTING: ChildState(Want.UP, Phase.STARTING, life=1, deadline_s=10.0),
    Phase.READY: ChildState(Want.UP, Phase.READY, life=1, ready_since_s=0.0, misses=2),
    Phase.STOPPING: ChildState(Want.UP, Phase.STOPPING, life=1, deadline_s=10.0),
    Phase.BACKOFF: ChildState(Want.UP, Phase.BACKOFF, life=1, deadline_s=10.0),
}


def test_the_table_in_the_documentation_is_what_the_machine_does() -> None:
    """Every change of phase that any event can bring about, from every phase, wanted and not."""
    done = set()
    for phase, state in PHASES.items():
        for want in (Want.UP, Want.DOWN):
            if want is Want.UP or phase in {Phase.STOPPED, Phase.STOPPING}:
                before = replace(state, want=want, failures=5)
                for event in (WantUp(), WantDown(), Answered(1), Missed(1), Gone(1, "x"), Tick()):
                    after, actions = step(before, event, 20.0, POLICY, luck=0.0)
                    if after.phase is not phase or actions:
                        done.add(
                            (phase.value, after.phase.value, *(type(action).__name__.lower() for action in actions))
                        )
    assert done == set(_rows(str(phase_module.__doc__)))


def test_the_architecture_page_has_the_same_table() -> None:
    page = Path(__file__).parents[3].joinpath("docs", "ARCHITECTURE.md").read_text(encoding="utf-8")
    assert _rows(page) == _rows(str(phase_module.__doc__))


def _rows(text: str) -> list[tuple[str, ...]]:
    lines = text[text.index("    from  ") :].partition("\n\n")[0].splitlines()[1:]
    rows: list[tuple[str, ...]] = []
    for line in lines:
        sources, _, target, *doing = re.split(r"\s{2,}", line.strip())
        words = [word.split(",")[0] for word in doing]
        rows += [(source, target, *words) for source in sources.split(", ")]
    return rows
