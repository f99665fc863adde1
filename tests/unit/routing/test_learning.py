from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamad.routing.estimate import Estimate, Rate
from ollamad.routing.knowledge import GB, WARM_S, Knowledge, Tally, What
from ollamad.routing.memory import KEYS_MAX, Memory, Rules
from ollamad.routing.request import Need, Request
from tests.support.scene import EMBED, M


@given(st.lists(st.floats(0.1, 1000), min_size=1, max_size=50))
def test_a_mean_stays_within_what_it_has_seen(values: list[float]) -> None:
    estimate = Estimate()
    for value in values:
        estimate.add(value)
    assert min(values) - 1e-6 <= estimate.mean <= max(values) + 1e-6
    assert estimate.variance >= 0


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
    knowledge.stored({"here": (GB, "bert")})
    assert {model for _, model, _ in knowledge.values} == {"", "here"}
    assert knowledge.slots("here", 4) == 1
    assert (knowledge.tell_once("here"), knowledge.tell_once("here")) == (True, False)


def test_clients_that_make_up_shapes_do_not_fill_the_memory() -> None:
    memory = Memory(Rules())
    for number in range(3 * KEYS_MAX):
        memory.arrived(Request(Need.RUNNER, M, shape=str(number)), float(number))
    assert memory.model_demand_per_s(M, 3.0 * KEYS_MAX) > 0
    assert len(memory._demand) <= KEYS_MAX + 1


def test_embeddings_are_remembered_for_a_while() -> None:
    memory = Memory(Rules())
    memory.arrived(EMBED, 0.0)
    assert memory.embeds(M, 10.0)
    assert not memory.embeds(M, 1000.0)
