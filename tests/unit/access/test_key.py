"""What a key is: how it is made, known again, and what it grants."""

from __future__ import annotations

import base64
import secrets
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamad.access.key import ENTROPY_BYTES, Grant, Key, Scope, digest, id_of, mint
from ollamad.access.presented import presented_key
from ollamad.routing.request import Priority

NOW = datetime(2026, 11, 24, tzinfo=UTC)
LUCK = st.binary(min_size=ENTROPY_BYTES, max_size=ENTROPY_BYTES)


@given(LUCK, LUCK)
def test_a_key_is_known_again_and_no_other_is_taken_for_it(luck: bytes, other: bytes) -> None:
    key_id, secret, key = mint(Grant(name="a"), luck, NOW)
    assert id_of(secret) == key_id
    assert key.is_that_of(secret)
    another = mint(Grant(name="a"), other, NOW)[1]
    assert key.is_that_of(another) == (luck == other)


@given(LUCK)
def test_nothing_of_the_secret_is_kept_but_its_hash(luck: bytes) -> None:
    _, secret, key = mint(Grant(name="a"), luck, NOW)
    assert secret.rpartition("_")[2] not in msgspec.json.encode(key).decode()
    assert key.sha256 == digest(secret)


def test_a_secret_has_256_bits_and_no_character_that_ends_a_word() -> None:
    _, secret, _ = mint(Grant(name="a"), secrets.token_bytes(ENTROPY_BYTES), NOW)
    assert len(base64.b32decode(secret.rpartition("_")[2].upper() + "====")) == 32
    assert secret.replace("_", "").isalnum()


@pytest.mark.parametrize(
    "text", ["", "olk_", "sk-abc", "olk_aaaaaaaa_short", "olk_AAAAAAAA_" + "a" * 52, "\udcff", "ü" * 70]
)
def test_what_has_not_the_form_of_a_key_is_looked_up_nowhere(text: str) -> None:
    assert id_of(text) is None
    assert len(digest(text)) == 64


@pytest.mark.parametrize(
    ("patterns", "name", "allowed"),
    [
        (("*",), "anything at all", True),
        (("llama3.2",), "llama3.2", True),
        (("llama3.2",), "LLAMA3.2:latest", True),
        (("llama3.2",), "registry.ollama.ai/library/llama3.2:latest", True),
        (("llama3.2",), "llama3.2:3b", False),
        (("llama3.2",), "other/llama3.2", False),
        (("llama3*",), "llama3.2:3b", True),
        (("Llama3*:3B",), "llama3.2:3b", True),
        (("library/llama3.2:3b",), "llama3.2:3b", True),
        (("qwen*:7b", "me/*"), "me/own:1", True),
        (("qwen*:7b",), "qwen2:70b", False),
        (("llama3*",), "hf.co/evil/llama3:latest", False),
        (("hf.co/me/*",), "hf.co/me/x:Q4", True),
        (("[a-z]*",), "zephyr:latest", True),
    ],
)
def test_a_pattern_is_held_against_the_name_however_that_is_written(
    patterns: tuple[str, ...],
    name: str,
    allowed: bool,  # noqa: FBT001
) -> None:
    assert Grant(name="a", models=patterns).allows_model(name) is allowed


def test_a_key_ends_at_its_hour() -> None:
    _, _, key = mint(Grant(name="a", expires=NOW), b"x" * ENTROPY_BYTES, NOW)
    assert [key.is_expired(NOW + timedelta(seconds=s)) for s in (-1, 0, 1)] == [False, True, True]
    assert not mint(Grant(name="a"), b"x" * ENTROPY_BYTES, NOW)[2].is_expired(NOW)


def test_a_priority_is_routing_s() -> None:
    assert [Grant(name="a", priority=word).share for word in ("high", "normal", "low")] == [*Priority]


@pytest.mark.parametrize(
    "bad",
    [
        {},
        {"name": ""},
        {"name": "a b"},
        {"name": "a\n"},
        {"name": "a" * 65},
        {"name": "a", "scopes": []},
        {"name": "a", "scopes": ["admin"]},
        {"name": "a", "models": []},
        {"name": "a", "requests_per_minute": -1},
        {"name": "a", "priority": "highest"},
        {"name": "a", "expires": "2027-01-01T00:00:00"},
        {"name": "a", "sha256": "0" * 64},
    ],
)
def test_what_grants_nothing_that_is_understood_is_refused(bad: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(bad, Grant)


def test_a_grant_s_default_is_to_use_models_and_not_to_change_them() -> None:
    assert Grant(name="a").scopes == (Scope.INFER, Scope.READ)
    assert issubclass(Key, Grant)


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ({"Authorization": "Bearer k"}, "k"),
        ({"Authorization": "bearer  k "}, "k"),
        ({"X-Api-Key": "k"}, "k"),
        ({"Authorization": "Bearer k", "X-Api-Key": "other"}, "k"),
        ({"Authorization": "Bearer "}, None),
        ({"Authorization": "Basic eDpr"}, None),
        ({"Authorization": "Basic eDpr", "X-Api-Key": "k"}, "k"),
        ({}, None),
    ],
)
def test_a_key_comes_as_openai_s_or_as_anthropic_s_clients_send_it(headers: dict[str, str], found: str | None) -> None:
    assert presented_key(headers) == found


@pytest.mark.parametrize(("word", "found"), [("eDpr", "k"), ("eA==", None), ("\xff", None), ("eDr/", None), ("", None)])
def test_a_browser_s_prompt_may_be_answered_with_it(word: str, found: str | None) -> None:
    assert presented_key({"Authorization": f"Basic {word}"}, basic=True) == found
