from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ollamad.ollama.names import canonical

MODELS = st.from_regex(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,8}", fullmatch=True)
SPACES = MODELS.filter(lambda space: space.lower() != "library")
HOSTS = st.sampled_from(["registry.ollama.ai", "hf.co", "localhost:5000", "10.0.0.1:443"])
PARTS = st.tuples(HOSTS, st.just("library") | SPACES, MODELS, st.just("latest") | MODELS)
"""Host, namespace, model and tag of every valid name."""

Parts = tuple[str, str, str, str]


def spellings(parts: Parts) -> list[str]:
    """All the ways to write one name, from the fullest to the shortest."""
    host, space, model, tag = parts
    paths = [f"https://{host}/{space}/{model}", f"{host}/{space}/{model}"]
    if host == "registry.ollama.ai":
        paths.append(f"{space}/{model}")
        if space == "library":
            paths.append(model)
    return [spelt for path in paths for spelt in ([f"{path}:{tag}", path] if tag == "latest" else [f"{path}:{tag}"])]


@given(PARTS)
def test_every_spelling_of_a_name_is_the_same_model(parts: Parts) -> None:
    assert len({canonical(spelt) for spelt in spellings(parts)}) == 1


@given(PARTS)
def test_case_and_blanks_around_make_no_other_model(parts: Parts) -> None:
    for spelt in spellings(parts):
        assert canonical(f" {spelt.upper()}\n") == canonical(spelt) == canonical(spelt).lower()


@given(PARTS, PARTS)
def test_two_models_are_never_taken_for_one(one: Parts, other: Parts) -> None:
    assume([part.lower() for part in one] != [part.lower() for part in other])
    assert canonical(spellings(one)[0]) != canonical(spellings(other)[0])


@given(PARTS)
def test_a_canonical_name_is_its_own_canonical_name(parts: Parts) -> None:
    name = canonical(spellings(parts)[0])
    assert canonical(name) == name


@pytest.mark.parametrize(
    ("name", "same_as"),
    [
        ("llama3.2", "llama3.2:latest"),
        ("library/llama3.2", "llama3.2:latest"),
        ("registry.ollama.ai/library/LLAMA3.2:1B", "llama3.2:1b"),
        ("registry.ollama.ai/me/mine", "me/mine:latest"),
        ("http://localhost:5000/x/y", "localhost:5000/x/y:latest"),
        ("localhost:5000/x/y:q4", "localhost:5000/x/y:q4"),
        ("hf.co/bartowski/Llama-3.2-1B-GGUF:Q4_K_M", "hf.co/bartowski/llama-3.2-1b-gguf:q4_k_m"),
        ("gpt-oss:120b-cloud", "gpt-oss:120b-cloud"),
    ],
)
def test_names_as_people_write_them(name: str, same_as: str) -> None:
    assert canonical(name) == same_as


@given(st.text())
def test_what_is_no_name_is_no_trouble_either(text: str) -> None:
    assert canonical(text) == canonical(text.strip())
