from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ollamad.ollama.names import canonical, from_path, is_cloud, parse

MODELS = st.from_regex(r"[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,8}", fullmatch=True)
SPACES = st.from_regex(r"[a-zA-Z0-9_][a-zA-Z0-9_-]{0,8}", fullmatch=True).filter(lambda name: name.lower() != "library")
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
def test_case_makes_no_other_model(parts: Parts) -> None:
    for spelt in spellings(parts):
        assert canonical(spelt.upper()) == canonical(spelt) == canonical(spelt).lower()


@given(PARTS, PARTS)
def test_two_models_are_never_taken_for_one(one: Parts, other: Parts) -> None:
    assume([part.lower() for part in one] != [part.lower() for part in other])
    assert canonical(spellings(one)[0]) != canonical(spellings(other)[0])


@given(PARTS)
def test_a_canonical_name_is_its_own_canonical_name(parts: Parts) -> None:
    name = canonical(spellings(parts)[0])
    assert canonical(name) == name


@given(PARTS)
def test_a_name_is_read_back_from_where_its_manifest_lies(parts: Parts) -> None:
    name = parse(spellings(parts)[0])
    assert name is not None
    assert from_path(name.path) == name
    assert parse(name.short) == name or name.host.lower() == "registry.ollama.ai"


@given(st.text() | st.text("ab/:.-_@~ é", max_size=20))
def test_a_name_can_never_leave_the_store(text: str) -> None:
    name = parse(text)
    if name is not None:
        assert len(name.path.split("/")) == 4
        assert not {"", ".", ".."} & set(name.path.split("/"))


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


@pytest.mark.parametrize(
    "text",
    [
        *("", " a", "a ", "a:", ":a", "/a", "a/", "a//b", "..", "../a", "a/../b", "a:..", ".a", "-a", "a.b/c"),
        *("x/y/z/w", "https://a", "a:b:c", "a@sha256:0", "é", "a" * 81, f"{'h' * 351}/a/b"),
    ],
)
def test_what_ollama_refuses_is_no_name_and_equals_no_model(text: str) -> None:
    assert parse(text) is None
    assert canonical(text) == text


@pytest.mark.parametrize("path", ["", "a", "a/b/c", "a/b/c/d/e", "a/b/../d", "a/b/c/.d"])
def test_what_is_no_place_for_a_manifest_is_no_name(path: str) -> None:
    assert from_path(path) is None


def test_models_in_the_cloud_are_known_by_their_tag() -> None:
    assert [is_cloud(name) for name in ("gpt-oss:120b-cloud", "kimi:cloud", "Kimi:CLOUD")] == [True] * 3
    assert [is_cloud(name) for name in ("cloud", "m:cloudy", "m:latest", "my-cloud", ":cloud")] == [False] * 5
