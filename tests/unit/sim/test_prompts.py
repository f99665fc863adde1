from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamad.sim.prompts import common_prefix, render, tokens_of

TEMPLATE = "{{ if .System }}<{{ .System }}>{{ end }}[{{ .Prompt }}]{{ .Response }};"


def said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


@pytest.mark.parametrize(
    ("messages", "prompt"),
    [
        ([said("user", "hi")], "[hi]"),
        ([said("system", "be"), said("user", "hi")], "<be>[hi]"),
        ([said("user", "hi"), said("assistant", "yes"), said("user", "go")], "[hi]yes;[go]"),
        ([said("user", "a"), said("user", "b")], "[a\n\nb]"),
        ([said("nobody", "a")], "[]"),
        ([said("user", "a"), said("assistant", "begun")], "[a]begun"),
    ],
)
def test_a_chat_becomes_a_prompt_round_by_round(messages: list[dict[str, str]], prompt: str) -> None:
    assert render(TEMPLATE, messages) == prompt


def test_a_template_without_a_response_has_it_at_its_end() -> None:
    messages = [said("user", "a"), said("assistant", "b"), said("user", "c")]
    assert render("{{ .Prompt }}\n", messages) == "a\nbc\n"


def test_a_token_is_a_byte() -> None:
    assert tokens_of("go on") == [259, 106, 114, 259, 114, 113]


@given(st.lists(st.integers(0, 3)), st.lists(st.integers(0, 3)))
def test_the_common_prefix_is_the_longest(first: list[int], second: list[int]) -> None:
    length = common_prefix(first, second)
    assert first[:length] == second[:length]
    assert length == min(len(first), len(second)) or first[length] != second[length]
