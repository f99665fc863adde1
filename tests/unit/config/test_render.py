"""The configuration as text, which must read back as what it says."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given

from ollamad.config import Config, Setting, load, read
from ollamad.config.render import WIDTH, render_effective, render_example
from tests.unit.config.loading import CONFIGURATIONS, DEFAULTS, HOME, KEYS, loaded, settings_of

EXAMPLE = Path(__file__).parents[3] / "config.example.toml"


def test_the_example_in_the_repository_is_the_one_that_the_schema_draws() -> None:
    assert EXAMPLE.read_text(encoding="utf-8") == render_example()


def test_the_example_loads_without_a_problem_and_says_the_defaults() -> None:
    assert load(read(EXAMPLE), home=HOME).config == Config()


def test_the_example_has_every_key_with_its_default_once() -> None:
    tables = tomllib.loads(render_example())
    told = {f"{table}.{key}": value for table, content in tables.items() for key, value in content.items()}
    assert told == {key: [*value] if isinstance(value, tuple) else value for key, value in DEFAULTS.items()}


@pytest.mark.parametrize("key", KEYS)
def test_the_example_says_why_above_every_key(key: str) -> None:
    name = key.partition(".")[2]
    lines = render_example().splitlines()
    (number,) = [
        number
        for number, line in enumerate(lines)
        if (line.startswith(f"{name} =") or line == f"[{key}]") and of_table(lines[: number + 1], key)
    ]
    assert lines[number - 1].startswith("# ")


def test_a_reason_is_wrapped_to_the_width_of_the_page() -> None:
    assert max(len(line) for line in render_example().splitlines() if line.startswith("# ")) <= WIDTH


@given(CONFIGURATIONS)
def test_what_is_in_force_reads_back_as_the_same_configuration(chosen: list[tuple[str, object]]) -> None:
    first = loaded(*chosen)
    again = loaded(*settings_of(render_effective(first)))
    assert again.config == first.config
    assert set(again.origins) == set(KEYS)


def test_what_is_in_force_names_who_set_each_key() -> None:
    found = load(
        [Setting("log.level", "debug", "ollamad.toml:3"), Setting("ollama.env", {"A": "1"}, "OLLAMAD_OLLAMA_ENV")],
        home=HOME,
    )
    text = render_effective(found)
    assert text.startswith("# What is in force.")
    assert '# ollamad.toml:3\nlevel = "debug"\n' in text
    assert '# OLLAMAD_OLLAMA_ENV\n[ollama.env]\nA = "1"\n' in text
    assert sum(line.startswith("# ") for line in text.splitlines()) == 3  # two keys, and the first line


def of_table(lines: list[str], key: str) -> bool:
    headers = [line for line in lines if line.startswith("[")]
    return headers[-1].startswith((f"[{key.partition('.')[0]}]", f"[{key}]"))


def test_a_model_that_is_named_like_a_secret_is_shown() -> None:
    text = render_effective(loaded(("routing.models", {"token-counter:latest": {"min_replicas": 1}})))
    assert tomllib.loads(text)["routing"]["models"]["token-counter:latest"]["min_replicas"] == 1
