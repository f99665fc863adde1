from __future__ import annotations

from dataclasses import replace
from math import log
from statistics import fmean, pvariance

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamad.routing.estimate import Estimate, Rate
from ollamad.routing.knowledge import GB, KV_BYTES_PER_TOKEN, RUNNER_BYTES, WARM_S, Knowledge, Tally, What
from ollamad.routing.memory import EMBEDS_RECENT_S, KEYS_MAX, REFUSED_S, Memory, Rules
from ollamad.routing.request import Need, Request
from tests.support.scene import EMBED, RUN, M


@given(st.lists(st.floats(0.1, 1000), min_size=1, max_size=50))
def test_a_mean_stays_within_what_it_has_seen(values: list[float]) -> None:
    estimate = Estimate()
    for value in values:
        estimate.add(value)
    assert min(values) - 1e-6 <= estimate.mean <= max(values) + 1e-6
    assert estimate.variance >= 0


@given(st.lists(st.floats(0.1, 1000), min_size=1, max_size=6))
def test_the_first_six_values_count_as_in_a_plain_mean(values: list[float]) -> None:
    estimate = Estimate()
    for value in values:
        estimate.add(value)
    assert estimate.count == len(values)
    assert estimate.mean == pytest.approx(fmean(values))
    assert estimate.variance == pytest.approx(pvariance(values), abs=1e-6)


def test_a_mean_follows_a_change() -> None:
    estimate = Estimate()
    for value in [1.0] * 50 + [10.0] * 30:
        estimate.add(value)
    assert estimate.mean > 9.5


def test_a_steady_stream_reads_as_its_rate_and_silence_ends_it() -> None:
    rate = Rate(600.0, 0.0)
    for second in range(0, 600, 2):
        rate.add(float(second))
    assert 0.4 < rate.per_s(600.0) < 0.55
    assert rate.per_s(900.0) <= 3.0 / 300


@pytest.mark.parametrize("asked_s", [0.0, 1000.0])
def test_what_was_asked_for_once_counts_half_after_a_half_life(asked_s: float) -> None:
    """Beside the youth of 30 s that a rate is given, and before silence bounds it."""
    rate = Rate(1.0, asked_s)
    assert rate.per_s(asked_s) == 0.0
    rate.add(asked_s)
    assert rate.last_s == asked_s
    assert rate.per_s(asked_s) == pytest.approx(log(2))
    assert rate.per_s(asked_s + 2.0) == pytest.approx(log(2) / 4)
    slow = Rate(600.0, asked_s)
    slow.add(asked_s)
    assert slow.per_s(asked_s) == pytest.approx(1 / 30, rel=0.02)


def test_silence_bounds_a_rate_from_its_first_moment() -> None:
    rate = Rate(600.0, 0.0)
    for _ in range(1000):
        rate.add(100.0)
    assert rate.per_s(100.0) > 3.0 / 0.5
    assert rate.per_s(100.5) == 3.0 / 0.5


def test_a_load_is_guessed_from_the_size_and_learned_from_loads() -> None:
    knowledge = Knowledge()
    knowledge.files_bytes["big"] = 20 * GB
    assert knowledge.load_s("big", "gpu", 0.0) == 11.0
    knowledge.loaded("big", "gpu", 4.0, 0.0)
    assert knowledge.load_s("big", "gpu", 1.0) == 4.0


def test_loads_from_a_warm_and_a_cold_page_cache_are_learned_apart() -> None:
    knowledge = Knowledge()
    knowledge.loaded("m", "gpu", 40.0, 0.0)
    knowledge.loaded("m", "gpu", 4.0, 10.0)
    assert knowledge.load_s("m", "gpu", 20.0) == 4.0
    assert knowledge.load_s("m", "gpu", 10.0 + WARM_S) == 40.0


@pytest.mark.parametrize(("age_s", "warm"), [(WARM_S - 1, True), (WARM_S, False)])
def test_a_file_that_was_read_lately_is_warm_whenever_that_was(age_s: float, *, warm: bool) -> None:
    knowledge = Knowledge()
    for took_s in (40.0, 4.0):
        knowledge.loaded("m", "gpu", took_s, 5000.0)
    assert knowledge.load_s("m", "gpu", 5000.0 + age_s) == (4.0 if warm else 40.0)
    knowledge.loaded("m", "gpu", 1000.0, 5000.0 + age_s)
    assert knowledge.values[What.LOAD_COLD_S, "m", "gpu"].count == (1 if warm else 2)


@pytest.mark.parametrize("known", [What.LOAD_S, What.LOAD_COLD_S])
@pytest.mark.parametrize("read_s", [None, 0.0])
def test_where_only_warm_or_only_cold_loads_were_seen_they_stand_for_both(known: What, read_s: float | None) -> None:
    knowledge = Knowledge()
    knowledge.learn(known, "m", "gpu", 7.0)
    knowledge.learn(known, "other", "gpu", 70.0)
    if read_s is not None:
        knowledge.read_at_s["m"] = read_s
    assert knowledge.load_s("m", "gpu", 1.0) == 7.0


def test_a_warm_load_of_what_was_never_loaded_is_guessed_from_the_size_too() -> None:
    knowledge = Knowledge()
    knowledge.files_bytes["m"] = 4 * GB
    knowledge.read_at_s["m"] = 0.0
    assert knowledge.load_s("m", "gpu", 1.0) == 3.0


@pytest.mark.parametrize(("kind", "reads_per_s", "answers_s"), [("cpu", 100.0, 200 / 15), ("gpu", 6000.0, 1.0)])
def test_speeds_are_guessed_from_the_size_and_slower_for_a_cpu(kind: str, reads_per_s: float, answers_s: float) -> None:
    knowledge = Knowledge()
    knowledge.files_bytes["m"] = 2 * GB
    assert knowledge.prefill_per_s("m", kind) == reads_per_s
    assert knowledge.service_s("m", kind) == answers_s
    assert knowledge.service_s("m", kind, embeds=True) == 0.1
    for model, embeds_s in (("m", 0.5), ("other", 5.0)):
        knowledge.learn(What.EMBED_S, model, kind, embeds_s)
    assert knowledge.service_s("m", kind, embeds=True) == 0.5


def test_how_long_an_answer_takes_is_told_by_answers_else_by_their_length_and_the_speed() -> None:
    knowledge = Knowledge()
    knowledge.learn(What.OUTPUT_TOKENS, "m", "", 300.0)
    knowledge.learn(What.DECODE_PER_S, "m", "gpu", 50.0)
    knowledge.learn(What.DECODE_PER_S, "other", "gpu", 5.0)
    assert knowledge.service_s("m", "gpu") == 6.0
    knowledge.learn(What.SERVICE_S, "other", "gpu", 90.0)
    knowledge.learn(What.SERVICE_S, "m", "gpu", 9.0)
    assert knowledge.service_s("m", "gpu") == 9.0


@pytest.mark.parametrize(
    ("what", "scaled"),
    [(What.LOAD_S, 8.5 / 1.5), (What.SERVICE_S, 8.5 / 1.5), (What.DECODE_PER_S, 1.5 / 8.5), (What.VRAM_BYTES, 1.0)],
)
def test_a_value_of_one_model_is_scaled_to_another_by_its_size(what: What, scaled: float) -> None:
    """Eight times the weights beside half a gigabyte's worth of what is fixed."""
    knowledge = Knowledge()
    knowledge.files_bytes.update(small=1 * GB, large=8 * GB)
    knowledge.learn(what, "small", "gpu", 60.0)
    assert knowledge.know(what, "large", "gpu", 0.0) == pytest.approx(60.0 * scaled)
    assert knowledge.know(what, "small", "gpu", 0.0) == 60.0
    assert knowledge.know(what, "large", "another", 5.0) == 5.0
    knowledge.learn(what, "large", "gpu", 7.0)
    assert knowledge.know(what, "large", "gpu", 0.0) == 7.0


def test_a_cache_grows_with_the_context_and_with_the_root_of_the_size() -> None:
    knowledge = Knowledge()
    knowledge.files_bytes["m"] = 9 * 4_700_000_000
    assert knowledge.vram_bytes("m", 1000) == 9 * 4_700_000_000 + 3 * KV_BYTES_PER_TOKEN * 1000 + RUNNER_BYTES


def test_what_was_seen_last_of_a_size_replaces_what_was_seen_before() -> None:
    knowledge = Knowledge()
    for seen in (7 * GB, 5 * GB, 5 * GB):
        knowledge.saw_vram(M, seen)
        assert knowledge.vram_bytes(M, 0) == seen + RUNNER_BYTES
        assert knowledge.values[What.VRAM_BYTES, M, ""] == Estimate(float(seen), 0.0, 1)
    told = knowledge.values[What.VRAM_BYTES, M, ""]
    knowledge.saw_vram(M, 5 * GB)
    assert knowledge.values[What.VRAM_BYTES, M, ""] is told, "what is no news costs nothing"


@pytest.mark.parametrize(
    ("tally", "learns"),
    [
        (Tally(output_tokens=100, output_s=2.0), {What.OUTPUT_TOKENS: 100, What.DECODE_PER_S: 50}),
        (Tally(output_tokens=2, output_s=2.0), {What.OUTPUT_TOKENS: 2, What.DECODE_PER_S: 1}),
        (Tally(output_tokens=1, output_s=2.0), {}),
        (Tally(output_tokens=100), {}),
        (Tally(output_s=2.0), {}),
        (Tally(prompt_tokens=32, prompt_s=0.5), {What.BYTES_PER_TOKEN: 4, What.PREFILL_PER_S: 64}),
        (Tally(prompt_tokens=31, prompt_s=0.5), {}),
        (Tally(prompt_tokens=32), {What.BYTES_PER_TOKEN: 4}),
        (Tally(prompt_s=0.5), {}),
        (Tally(), {}),
    ],
)
def test_what_the_counts_of_a_response_tell(tally: Tally, learns: dict[What, float]) -> None:
    knowledge = Knowledge()
    knowledge.answered(M, "gpu", tally, 128, cached=False)
    by_kind = {What.DECODE_PER_S, What.PREFILL_PER_S}
    expected = {(what, M, "gpu" if what in by_kind else ""): value for what, value in learns.items()}
    assert {name: kept.mean for name, kept in knowledge.values.items() if name[1]} == expected


def test_a_response_to_a_prompt_of_no_bytes_tells_nothing_of_bytes_and_a_value_of_nothing_is_none() -> None:
    knowledge = Knowledge()
    knowledge.answered(M, "gpu", Tally(prompt_tokens=32), 0, cached=False)
    knowledge.learn(What.LOAD_S, M, "gpu", 0.0)
    assert knowledge.values == {}


def test_a_model_that_is_new_to_a_kind_of_gpu_is_judged_by_others_there_and_its_size() -> None:
    knowledge = Knowledge()
    knowledge.files_bytes.update(small=1 * GB, large=9 * GB)
    knowledge.learn(What.PREFILL_PER_S, "small", "fast", 6000.0)
    knowledge.learn(What.PREFILL_PER_S, "small", "slow", 600.0)
    assert knowledge.prefill_per_s("large", "fast") == pytest.approx(10 * knowledge.prefill_per_s("large", "slow"))
    assert knowledge.prefill_per_s("large", "fast") < 1500


def test_a_prompt_that_was_partly_there_says_nothing_of_speed() -> None:
    knowledge = Knowledge()
    tally = Tally(prompt_tokens=1000, prompt_s=0.01, output_tokens=100, output_s=2.0)
    before = knowledge.prefill_per_s(M, "gpu")
    knowledge.answered(M, "gpu", tally, 4000, cached=True)
    assert knowledge.prefill_per_s(M, "gpu") == before
    knowledge.answered(M, "gpu", tally, 3000, cached=False)
    assert knowledge.prefill_per_s(M, "gpu") == 100_000
    assert knowledge.tokens(M, 3000) == 1000
    assert knowledge.output_tokens(M) == 100


def test_a_size_that_was_seen_replaces_the_guess() -> None:
    knowledge = Knowledge()
    knowledge.saw_vram(M, 7 * GB)
    assert 7 * GB < knowledge.vram_bytes(M, 32_768) < 8 * GB


def test_what_the_store_has_no_more_is_forgotten() -> None:
    knowledge = Knowledge()
    for model in ("gone", "here"):
        knowledge.learn(What.LOAD_S, model, "gpu", 1.0)
        knowledge.loaded(model, "gpu", 1.0, 0.0)
    knowledge.stored({"here": (GB, "bert")})
    assert knowledge.files_bytes == {"here": GB}
    assert knowledge.read_at_s == {"here": 0.0}
    assert {model for _, model, _ in knowledge.values} == {"", "here"}
    assert knowledge.slots("here", 4) == 1
    assert (knowledge.tell_once("here"), knowledge.tell_once("here")) == (True, False)


def shapes(memory: Memory, count: int) -> None:
    """As many shapes of one model, one a second from 0 on."""
    for number in range(count):
        memory.arrived(Request(Need.RUNNER, M, shape=str(number)), float(number))


def test_clients_that_make_up_shapes_do_not_fill_the_memory() -> None:
    memory = Memory(Rules())
    shapes(memory, 3 * KEYS_MAX)
    assert memory.model_demand_per_s(M, 3.0 * KEYS_MAX) > 0
    assert len(memory._demand) <= KEYS_MAX + 1


def test_what_is_asked_for_least_is_forgotten_a_quarter_at_a_time_and_all_that_belongs_to_it() -> None:
    memory = Memory(Rules())
    memory.arrived(EMBED, 0.0)
    shapes(memory, KEYS_MAX - 2)
    late_s = float(KEYS_MAX)
    memory.arrived(Request(Need.RUNNER, "0", work=EMBED.work, shape="0"), late_s - 1)
    assert len(memory._demand) == KEYS_MAX
    memory.last = dict.fromkeys(memory._demand, "a")
    for key in list(memory._demand):
        memory.load_failed(key, 0.0)
    memory.load_refused((M, "old"), 0.0)
    memory.load_refused((M, "lately"), late_s)
    memory.arrived(Request(Need.RUNNER, "new"), late_s)
    kept = memory._demand.keys()
    assert len(kept) == KEYS_MAX + 1 - KEYS_MAX // 4
    assert {("new", ""), (M, str(KEYS_MAX - 3)), ("0", "0")} <= kept
    assert not {(M, ""), (M, "0"), (M, "200")} & kept
    assert memory.last.keys() == memory._loads_failed.keys() == kept - {("new", "")}
    assert memory._refused_s == {(M, "lately"): late_s}
    assert memory._embedded_s == {"0": late_s - 1}
    assert memory.model_demand_per_s("new", late_s) > 0


def test_what_is_forgotten_while_it_waits_is_not_remembered_for_ever_once_it_is_sent() -> None:
    memory, early = Memory(Rules()), Request(Need.RUNNER, M, shape="early")
    memory.arrived(early, 0.0)
    shapes(memory, KEYS_MAX)
    memory.sent(early, "a", 1, 1, float(KEYS_MAX))
    memory.load_failed((M, "early"), float(KEYS_MAX))
    shapes(memory, 2 * KEYS_MAX)
    assert memory.last == {}
    assert memory._loads_failed == {}


def test_embeddings_are_remembered_for_a_while() -> None:
    memory = Memory(Rules())
    memory.arrived(EMBED, 500.0)
    memory.arrived(RUN, 501.0)
    assert memory.embeds(M, 500.0 + EMBEDS_RECENT_S - 1)
    assert not memory.embeds(M, 500.0 + EMBEDS_RECENT_S)
    assert not memory.embeds("another", 500.0)


def test_a_refused_load_is_tried_again_after_a_while_or_once_it_has_worked() -> None:
    memory, key = Memory(Rules()), (M, "")
    memory.load_refused(key, 500.0)
    assert memory.is_refused(key, 500.0 + REFUSED_S - 1)
    assert not memory.is_refused(key, 500.0 + REFUSED_S)
    assert not memory.is_refused((M, "shape"), 500.0)
    memory.load_worked(key)
    memory.load_worked(key)
    assert not memory.is_refused(key, 500.0)


def test_a_load_that_worked_forgives_those_that_failed_before_it() -> None:
    memory, key = Memory(Rules()), (M, "")
    for failed in (2, 2):
        for _ in range(failed):
            memory.load_failed(key, 500.0)
        assert not memory.is_refused(key, 500.0)
        memory.load_worked(key)


def test_models_asked_for_lately_are_those_in_their_plain_shape() -> None:
    memory = Memory(Rules())
    memory.arrived(Request(Need.RUNNER, "old"), 10.0)
    memory.arrived(Request(Need.RUNNER, "shaped", shape="shape"), 20.0)
    memory.arrived(Request(Need.RUNNER, M), 20.0)
    assert memory.models_asked(20.0) == (M,)
    assert memory.models_asked(10.0) == ("old", M)
    assert memory.models_asked(20.1) == ()


def test_a_request_that_names_no_model_leaves_no_trace_but_its_turn() -> None:
    memory = Memory(Rules())
    memory.arrived(Request(Need.ANY), 1.0)
    memory.sent(Request(Need.ANY), "a", 1, 4, 1.0)
    assert (memory._demand, memory.last, memory.sent_s, memory.used_s, memory.turns) == ({}, {}, {}, {}, 1)


def test_what_is_known_of_lives_that_are_over_is_forgotten() -> None:
    memory = Memory(Rules())
    for name, life in (("a", 1), ("a", 2), ("gone", 1)):
        memory.breakers.failed(name, life, M, 0.0, weight=3)
        memory.sent(RUN, name, life, 1, float(life))
    memory.keep({("a", 2)})
    assert memory.sent_s == {"a": 2.0}
    assert memory.used_s == {("a", 2, M): 2.0}
    assert [memory.breakers.why_not(*life, M, 1.0) is None for life in (("a", 2), ("gone", 1))] == [False, True]


def test_what_was_sent_is_remembered_of_its_key_its_child_and_its_runner_and_probes_its_breaker() -> None:
    memory = Memory(Rules())
    memory.breakers.failed("a", 1, M, 0.0, weight=3)
    memory.sent(RUN, "a", 1, 4, 100.0)
    assert (memory.last, memory.sent_s, memory.used_s) == ({(M, ""): "a"}, {"a": 100.0}, {("a", 1, M): 100.0})
    assert memory.breakers.why_not("a", 1, M, 101.0) is not None, "it is the probe; a second has to wait"
    assert memory.breakers.why_not("a", 1, M, 1000.0) is None
    assert memory.prefixes._slots == {}
    for prefix in ((1, 2), (3, 4), (5,)):
        memory.sent(replace(RUN, prefix=prefix), "a", 1, 2, 100.0)
    assert memory.prefixes._slots == {("a", 1, M): [(3, 4), (5,)]}, "its slots hold the last two"
