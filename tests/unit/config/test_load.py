from __future__ import annotations

import datetime as dt

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamad.config import Config, Setting, load
from ollamad.config.load import did_you_mean
from ollamad.errors import ConfigError
from tests.unit.config.loading import BAD, CONFIGURATIONS, DEFAULTS, GOOD, HOME, KEYS, loaded, outcome, problems


def test_without_a_word_everything_has_its_default() -> None:
    said_nothing = loaded()
    assert said_nothing.config == Config()
    assert said_nothing.origins == {}


@pytest.mark.parametrize("key", KEYS)
def test_a_default_passes_the_check_of_its_own_key(key: str) -> None:
    assert loaded((key, DEFAULTS[key])).config == Config()


def test_the_good_values_of_these_tests_cover_every_key() -> None:
    assert set(GOOD) == set(KEYS)


@given(CONFIGURATIONS)
def test_values_that_each_key_takes_are_taken_together_and_remember_who_set_them(
    chosen: list[tuple[str, object]],
) -> None:
    found = loaded(*chosen)
    assert found.origins == {key: "test" for key, _ in chosen}
    for key, value in chosen:
        table, name = key.split(".")
        assert comparable(getattr(getattr(found.config, table), name)) == comparable(value)


@pytest.mark.parametrize(("key", "value", "says"), BAD)
def test_a_bad_value_is_refused_with_its_key_its_origin_and_what_is_allowed(key: str, value: object, says: str) -> None:
    (problem,) = problems((key, value))
    assert (problem.key, problem.origin) == (key, "test")
    assert problem.message.startswith(says)


@pytest.mark.parametrize("key", KEYS)
def test_no_key_takes_a_table_in_place_of_its_value(key: str) -> None:
    (problem,) = problems((key, {"a": {"b": {}}}))
    assert problem.key == key
    assert problem.value == (None if key == "ollama.env" else '{"a": {"b": {}}}')


@pytest.mark.parametrize("key", [key for key in KEYS if type(DEFAULTS[key]) in {int, float}])
def test_true_is_no_number(key: str) -> None:
    (problem,) = problems((key, True))
    assert (problem.key, problem.value) == (key, "true")


@pytest.mark.parametrize("key", ["ollama.context_length", "gpus.cpu_children"])
def test_a_key_that_takes_a_number_or_a_word_takes_each_and_not_true(key: str) -> None:
    assert loaded((key, 7)).origins
    assert loaded((key, "auto")).origins
    assert problems((key, True))[0].message == "expected int | str, got bool"


@given(st.lists(st.sampled_from(BAD), unique_by=lambda bad: bad[0], min_size=1, max_size=6), CONFIGURATIONS)
def test_all_problems_are_told_at_once_in_the_order_of_their_keys(
    bad: list[tuple[str, object, str]], good: list[tuple[str, object]]
) -> None:
    found = problems(*good, *((key, value) for key, value, _ in bad))
    assert [problem.key for problem in found] == sorted(key for key, _, _ in bad)


def test_a_problem_reads_as_one_line_with_all_that_is_needed_to_mend_it() -> None:
    with pytest.raises(ConfigError) as caught:
        load([Setting("log.level", "loud", "ollamad.toml:7"), Setting("ollama.num_paralel", 2, "OLLAMAD_X")], home=HOME)
    assert str(caught.value) == (
        'log.level = "loud" (ollamad.toml:7): expected "debug" or "info" or "warning" or "error"\n'
        'ollama.num_paralel = 2 (OLLAMAD_X): there is no such key, did you mean "num_parallel"?'
    )


def test_a_value_is_shown_as_it_was_written() -> None:
    assert str(problems(("log.level", "größer"))[0]).startswith('log.level = "größer" (test): ')


def test_an_unknown_key_that_is_near_to_none_is_told_which_there_are() -> None:
    (problem,) = problems(("status.colour", "red"))
    assert problem.message.startswith("there is no such key; [status] has agent_listen, allow_unauthenticated, ")


def test_a_near_word_is_offered_and_a_far_one_is_not() -> None:
    assert did_you_mean("infoo", ["info", "error"]) == ', did you mean "info"?'
    assert did_you_mean("zzz", ["info", "error"]) == ""


@given(st.lists(st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(1, 16)), max_size=3), max_size=4))
def test_the_last_layer_that_names_a_key_decides_it(layers: list[list[tuple[str, int]]]) -> None:
    keys = {"a": "proxy.attempts_max", "b": "ollama.num_parallel", "c": "ollama.max_loaded_models"}
    found = load(
        *([Setting(keys[key], value, f"layer {rank}") for key, value in layer] for rank, layer in enumerate(layers)),
        home=HOME,
    )
    expected: dict[str, tuple[int, str]] = {}
    for rank, layer in enumerate(layers):
        expected |= {keys[key]: (value, f"layer {rank}") for key, value in layer}
    config = found.config
    assert found.origins == {key: origin for key, (_, origin) in expected.items()}
    got = (config.proxy.attempts_max, config.ollama.num_parallel, config.ollama.max_loaded_models)
    assert got == tuple(
        expected.get(key, (default, ""))[0] for key, default in zip(keys.values(), (3, 1, 3), strict=True)
    )


def test_a_later_list_or_table_replaces_an_earlier_one_whole() -> None:
    found = loaded(
        ("gpus.exclude", [0, 1]),
        ("ollama.env", {"A": "1", "B": "2"}),
        ("gpus.exclude", [2]),
        ("ollama.env", {"C": "3"}),
    )
    assert found.config.gpus.exclude == (2,)
    assert found.config.ollama.env == {"C": "3"}


def test_a_bad_value_that_a_later_layer_replaces_is_no_problem() -> None:
    assert loaded(("log.level", "loud"), ("log.level", "debug")).config.log.level == "debug"


SCALARS = (
    st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.dates()
    | st.times()
    | st.datetimes(timezones=st.none() | st.just(dt.UTC))
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)
ANY_KEY = (
    st.sampled_from([*KEYS, "proxy", "ollama", ""]) | st.text(max_size=12) | st.sampled_from(KEYS).map("{}x".format)
)


@given(st.dictionaries(ANY_KEY, VALUES, max_size=6))
def test_whatever_a_file_may_hold_is_loaded_or_refused_with_the_keys_at_fault(said: dict[str, object]) -> None:
    found = outcome(*said.items())
    if isinstance(found, ConfigError):
        assert found.problems
        assert {problem.key for problem in found.problems} <= {*KEYS, *said}
        assert all(problem.message and str(problem).startswith(problem.key) for problem in found.problems)
    else:
        assert set(found.origins) == set(said) <= set(KEYS)


def comparable(value: object) -> object:
    return [comparable(one) for one in value] if isinstance(value, list | tuple) else msgspec.to_builtins(value)
