from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamad.proxy.fields import digests_in, fields, model_field, only_unloads, wants_stream


def body(**found: object) -> bytes:
    return json.dumps(found).encode()


@pytest.mark.parametrize("keep_alive", [0, 0.0, 0.5, "0", "0s", "0m", "500ms", "0h0m0s"])
def test_no_prompt_and_no_time_to_keep_it_is_to_unload(keep_alive: object) -> None:
    assert only_unloads("/api/generate", body(model="m", keep_alive=keep_alive))
    assert only_unloads("/api/chat", body(model="m", messages=[], keep_alive=keep_alive))


@pytest.mark.parametrize("keep_alive", [-1, 1, 300, "5m", "-1s", "1s", "", "x", "0x", None, True, False, [], {}])
def test_any_other_time_is_not(keep_alive: object) -> None:
    assert not only_unloads("/api/generate", body(model="m", keep_alive=keep_alive))


def test_a_request_that_asks_for_something_is_not_to_unload_only() -> None:
    assert not only_unloads("/api/generate", body(model="m", prompt="hi", keep_alive=0))
    assert not only_unloads("/api/chat", body(model="m", messages=[{"role": "user"}], keep_alive=0))
    assert not only_unloads("/api/generate", body(model="m"))
    assert not only_unloads("/v1/completions", body(model="m", keep_alive=0))
    assert not only_unloads("/api/embed", body(model="m", keep_alive=0))


def test_names_of_fields_are_read_as_go_reads_them() -> None:
    found = fields(b'{"Model": "a", "STREAM": false, "model": "b", "Keep_Alive": 0}')
    assert (model_field(found), wants_stream(found)) == ("b", False)
    assert only_unloads("/api/generate", b'{"Model": "a", "Keep_Alive": 0}')


def test_the_older_name_counts_where_the_newer_is_absent() -> None:
    assert model_field(fields(body(name="old"))) == "old"
    assert model_field(fields(body(name="old", model="new"))) == "new"
    assert model_field(fields(body(model=3))) == ""


@given(st.binary())
def test_what_is_no_json_object_has_no_fields(raw: bytes) -> None:
    assert isinstance(fields(raw), dict)
    assert not only_unloads("/api/generate", raw)


def test_blobs_are_found_wherever_a_request_names_them() -> None:
    one, two = "ab" * 32, "cd" * 32
    request = body(modelfile=f"FROM @sha256:{one}", files={"x.gguf": f"sha256:{two.upper()}", "y": f"sha256:{one}"})
    assert digests_in(request) == [one, two]
