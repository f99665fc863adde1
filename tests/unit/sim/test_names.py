from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamad.sim.names import Name, parse

PART = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,10}", fullmatch=True)


@pytest.mark.parametrize(
    ("text", "full", "shortest"),
    [
        ("recite", "registry.ollama.ai/library/recite:latest", "recite:latest"),
        ("recite:8b", "registry.ollama.ai/library/recite:8b", "recite:8b"),
        ("ns/recite", "registry.ollama.ai/ns/recite:latest", "ns/recite:latest"),
        ("hf.co/a/b", "hf.co/a/b:latest", "hf.co/a/b:latest"),
        ("http://127.0.0.1:5000/library/x", "127.0.0.1:5000/library/x:latest", "127.0.0.1:5000/library/x:latest"),
    ],
)
def test_what_is_left_out_is_filled_in(text: str, full: str, shortest: str) -> None:
    name = parse(text)
    assert (name.valid, name.full, name.shortest) == (True, full, shortest)


@pytest.mark.parametrize("text", ["", ":latest", "recite:", "/recite", "a b", "../x", "x/y/z/w", "http://x/y", "a@b"])
def test_what_is_no_name_is_known(text: str) -> None:
    assert not parse(text).valid


@given(PART, PART, PART)
def test_a_name_that_is_shown_is_read_as_the_same(namespace: str, model: str, tag: str) -> None:
    name = Name("registry.ollama.ai", namespace, model, tag)
    assert parse(name.shortest) == parse(name.full) == name


@given(st.text(max_size=30))
def test_any_text_is_read(text: str) -> None:
    name = parse(text)
    if name.valid:
        assert ".." not in name.path.parts
        assert len(name.path.parts) == 4
