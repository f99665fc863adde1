from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamad.gpu.model import Sample
from ollamad.supervision.gpu_health import (
    GpuEvent,
    GpuEventKind,
    GpuHealth,
    Health,
    HealthPolicy,
    Verdict,
    noticed,
    verdict,
)
from ollamad.supervision.xids import XIDS, Blame, Xid, explain

POLICY = HealthPolicy(unanswered_max_s=10.0, recover_after_s=30.0, recover_max_s=100.0)
GPU = "GPU-0"
Fact = GpuEvent | Sample


def good(ecc: int | None = 0) -> Sample:
    return Sample(GPU, 0.0, memory_used_bytes=1, ecc_uncorrected=ecc)


def bad(fault: GpuEventKind = GpuEventKind.UNANSWERED) -> Sample:
    return Sample(GPU, 0.0, error=fault.value, fault=fault)


def event(kind: GpuEventKind) -> GpuEvent:
    return GpuEvent(GPU, kind, kind.value)


def xid(code: int) -> GpuEvent:
    return GpuEvent(GPU, GpuEventKind.XID, f"Xid {code}", xid=code)


def play(*story: tuple[float, Fact], state: GpuHealth | None = None) -> GpuHealth:
    now = state or GpuHealth()
    for when, fact in story:
        now, said = verdict(now, fact, when, POLICY)
        assert said == now.verdict
    return now


@pytest.mark.parametrize(
    ("fact", "health"),
    [
        (good(), Health.HEALTHY),
        (good(None), Health.HEALTHY),
        (Sample(GPU, 0.0, error="Not Supported"), Health.HEALTHY),
        (bad(), Health.SUSPECT),
        (bad(GpuEventKind.LOST), Health.QUARANTINED),
        (event(GpuEventKind.LOST), Health.QUARANTINED),
        (event(GpuEventKind.GONE), Health.QUARANTINED),
        (event(GpuEventKind.ECC), Health.QUARANTINED),
        (event(GpuEventKind.UNANSWERED), Health.SUSPECT),
        (event(GpuEventKind.DRIVER), Health.SUSPECT),
        (xid(13), Health.HEALTHY),
        (xid(31), Health.HEALTHY),
        (xid(43), Health.HEALTHY),
        (xid(45), Health.HEALTHY),
        (xid(63), Health.SUSPECT),
        (xid(92), Health.SUSPECT),
        (xid(48), Health.QUARANTINED),
        (xid(79), Health.QUARANTINED),
        (xid(95), Health.QUARANTINED),
        (xid(119), Health.QUARANTINED),
        (xid(4711), Health.SUSPECT),
        (GpuEvent(GPU, GpuEventKind.XID, "without a number"), Health.SUSPECT),
    ],
)
def test_what_each_fact_does_to_a_healthy_gpu(fact: Fact, health: Health) -> None:
    assert play((0.0, fact)).verdict.health is health


def test_the_reason_is_what_happened_and_goes_when_the_gpu_is_healthy_again() -> None:
    fallen = play((0.0, xid(79)))
    assert fallen.verdict == Verdict(Health.QUARANTINED, "Xid 79")
    assert play((1.0, good()), (31.0, good()), state=fallen).verdict == Verdict()


def test_a_quarantine_ends_only_after_good_readings_for_long_enough() -> None:
    lost = play((0.0, bad(GpuEventKind.LOST)), (1.0, good()), (30.9, good()))
    assert lost.verdict.health is Health.QUARANTINED
    assert play((31.0, good()), state=lost).verdict.health is Health.HEALTHY


def test_a_bad_reading_starts_the_wait_anew_and_keeps_the_reason() -> None:
    state = play((0.0, xid(79)), (1.0, good()), (20.0, bad()), (21.0, good()), (50.0, good()))
    assert state.verdict == Verdict(Health.QUARANTINED, "Xid 79")
    assert play((51.0, good()), state=state).verdict.health is Health.HEALTHY


@pytest.mark.parametrize("fault", [bad(), bad(GpuEventKind.LOST)])
def test_the_good_time_before_a_fault_does_not_shorten_the_wait_after_it(fault: Sample) -> None:
    ill = play((0.0, good()), (90.0, good()), (91.0, fault), (92.0, good()), (121.9, good()))
    assert ill.verdict.health is not Health.HEALTHY
    assert play((122.0, good()), state=ill).verdict.health is Health.HEALTHY


def test_what_is_noticed_tells_which_gpu_and_in_the_driver_s_words_if_it_has_any() -> None:
    silent = Sample(GPU, 0.0, error="Timeout", fault=GpuEventKind.UNANSWERED)
    assert noticed(GpuHealth(), silent) == GpuEvent(GPU, GpuEventKind.UNANSWERED, "Timeout")
    silent = Sample(GPU, 0.0, fault=GpuEventKind.UNANSWERED)
    assert noticed(GpuHealth(), silent) == GpuEvent(GPU, GpuEventKind.UNANSWERED, "unanswered")


def test_a_driver_that_fails_as_a_whole_makes_suspects_however_long_it_lasts() -> None:
    state = play(*((float(second), event(GpuEventKind.DRIVER)) for second in range(1000)))
    assert state.verdict == Verdict(Health.SUSPECT, GpuEventKind.DRIVER.value)
    assert play((1000.0, good()), (1030.0, good()), state=state).verdict.health is Health.HEALTHY


def test_a_gpu_that_does_not_answer_for_too_long_is_quarantined() -> None:
    state = play((0.0, bad()), (5.0, event(GpuEventKind.UNANSWERED)), (9.9, bad()))
    assert state.verdict.health is Health.SUSPECT
    assert play((10.0, bad()), state=state).verdict == Verdict(Health.QUARANTINED, "unanswered")


def test_one_answer_forgives_the_silence_before_it() -> None:
    assert play((0.0, bad()), (9.0, good()), (12.0, bad()), (20.0, bad())).verdict.health is Health.SUSPECT


def test_old_memory_errors_are_no_news_and_new_ones_are() -> None:
    state = play((0.0, good(7)), (1.0, good(7)))
    assert state.verdict.health is Health.HEALTHY
    assert noticed(state, good(9)) == GpuEvent(GPU, GpuEventKind.ECC, "2 new uncorrectable memory errors, 9 in all")
    assert play((2.0, good(9)), state=state).verdict.health is Health.QUARANTINED
    assert play((2.0, good(9)), (3.0, good(9)), (33.0, good(9)), state=state).verdict.health is Health.HEALTHY


def test_a_count_that_is_reset_or_missing_for_a_while_is_no_news() -> None:
    assert play((0.0, good(7)), (1.0, good(0)), (2.0, good(None)), (3.0, good(0))).verdict.health is Health.HEALTHY
    assert play((0.0, good(7)), (1.0, good(None)), (2.0, good(8))).verdict.health is Health.QUARANTINED


def test_each_quarantine_in_a_row_lasts_twice_as_long_up_to_a_cap() -> None:
    state, now, waits = GpuHealth(), 0.0, []
    for _ in range(5):
        state = play((now, xid(48)), (now, good()), state=state)
        began = now
        while state.verdict.health is Health.QUARANTINED:
            now += 1.0
            state = play((now, good()), state=state)
        waits.append(now - began)
    assert waits == [30.0, 60.0, 100.0, 100.0, 100.0]


def test_a_fault_during_a_quarantine_renews_it_and_counts_as_no_other() -> None:
    state = play((0.0, xid(48)), (1.0, xid(95)), (2.0, bad(GpuEventKind.LOST)))
    assert (state.quarantines, state.verdict.reason) == (1, "lost")


def test_after_a_long_healthy_time_earlier_quarantines_are_forgotten() -> None:
    well = play((0.0, xid(48)), (0.0, good()), (30.0, good()))
    assert play((100.0, good()), (129.9, xid(48)), state=well).quarantines == 2
    assert play((100.0, good()), (130.0, xid(48)), state=well).quarantines == 1


@pytest.mark.parametrize("code", [code for code, xid in XIDS.items() if xid.blame is Blame.PROGRAM])
def test_a_programs_own_xid_changes_nothing_at_all(code: int) -> None:
    for before in (GpuHealth(), play((0.0, xid(79)), (1.0, good())), play((0.0, bad()))):
        assert play((5.0, xid(code)), state=before) == before


def test_a_code_that_is_not_known_is_worth_a_warning() -> None:
    assert explain(4711) == Xid(Blame.UNSURE, "see NVIDIA's Xid catalog")
    assert all(0 < code <= 999 and xid.meaning for code, xid in XIDS.items())


FACTS = st.one_of(
    st.builds(good, st.none() | st.integers(0, 5)),
    st.sampled_from([bad(), bad(GpuEventKind.LOST), Sample(GPU, 0.0, error="Not Supported")]),
    st.sampled_from([event(kind) for kind in GpuEventKind if kind is not GpuEventKind.XID]),
    st.builds(xid, st.integers(0, 1000)),
)
STORIES = st.lists(st.tuples(st.floats(0.0, 200.0), FACTS), max_size=40)
POLICIES = st.builds(HealthPolicy, st.floats(0.0, 100.0), st.floats(0.0, 100.0), st.floats(0.0, 1000.0))


@dataclass(frozen=True)
class Told:
    now_s: float
    fact: Fact
    before: GpuHealth
    after: GpuHealth


def told(story: list[tuple[float, Fact]], policy: HealthPolicy) -> list[Told]:
    """A story of (pause, fact), with what the GPU's health was around each."""
    state, now, steps = GpuHealth(), 0.0, []
    for pause_s, fact in story:
        now += pause_s
        after, _ = verdict(state, fact, now, policy)
        steps.append(Told(now, fact, state, after))
        state = after
    return steps


@given(STORIES, POLICIES)
def test_a_reason_is_given_exactly_while_a_gpu_is_not_healthy(
    story: list[tuple[float, Fact]], policy: HealthPolicy
) -> None:
    for step in told(story, policy):
        assert (step.after.verdict.reason is None) == (step.after.verdict.health is Health.HEALTHY)


@given(STORIES, POLICIES)
def test_only_a_good_reading_makes_a_gpu_healthy_and_never_from_quarantine_before_its_time(
    story: list[tuple[float, Fact]], policy: HealthPolicy
) -> None:
    worst_s = float("-inf")
    for step in told(story, policy):
        was, now = step.before.verdict.health, step.after.verdict.health
        if was is not Health.HEALTHY and now is Health.HEALTHY:
            assert isinstance(step.fact, Sample)
            assert step.fact.fault is None
            assert step.now_s - worst_s >= policy.recover_after_s
        if now is not Health.HEALTHY and step.after.good_since_s is None:
            worst_s = step.now_s


@given(STORIES, POLICIES)
def test_a_quarantine_ends_only_in_health_not_in_suspicion(
    story: list[tuple[float, Fact]], policy: HealthPolicy
) -> None:
    for step in told(story, policy):
        if step.before.verdict.health is Health.QUARANTINED:
            assert step.after.verdict.health is not Health.SUSPECT


@given(STORIES, POLICIES)
def test_whatever_happened_a_gpu_that_stays_good_is_healthy_in_bounded_time(
    story: list[tuple[float, Fact]], policy: HealthPolicy
) -> None:
    steps = told(story, policy)
    state, now = (steps[-1].after, steps[-1].now_s) if steps else (GpuHealth(), 0.0)
    longest_s = max(policy.recover_after_s, policy.recover_max_s)
    state, _ = verdict(state, good(None), now, policy)
    _, said = verdict(state, good(None), now + longest_s + 1.0, policy)
    assert said == Verdict()
