from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamad.ollama.names import canonical
from ollamad.proxy.peek import NOTHING, model_of, peek

JSON = "application/json"
FORM = "multipart/form-data"
HUGE = "A" * 5_000_000


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"llama3.2","prompt":"x","stream":false}',
        b' {"prompt": "x", "model" : "LLAMA3.2:latest"}\n',
        b'{"name":"llama3.2"}',
        b'{"name":"other","model":"registry.ollama.ai/library/llama3.2"}',
        b'{"model":"","name":"llama3.2"}',
        b'{"model":null,"name":"llama3.2"}',
        b'{"model":"first","model":"llama3.2"}',
        b'{"messages":[{"model":"inner"}],"options":{"model":"inner"},"model":"llama3.2"}',
        b'{"model":"llama3\\u002e2"}',
        b'{"prompt":"\xff\xfe","model":"llama3.2"}',
        f'{{"images":["{HUGE}"],"model":"llama3.2","context":[{"1," * 100_000}1]}}'.encode(),
    ],
)
@pytest.mark.parametrize("content_type", [JSON, "application/x-www-form-urlencoded", "application/octet-stream", ""])
def test_the_model_is_found_whatever_stands_around_it_and_whatever_the_type_says(
    body: bytes, content_type: str
) -> None:
    assert model_of(body, content_type) == "llama3.2:latest"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"model=llama3.2",
        b"{}",
        b"null",
        b"[]",
        b'"llama3.2"',
        b'[{"model":"m"}]',
        b'{"model":"m"',
        b'{"model":"m"} x',
        b"{'model':'m'}",
        b'{"model":5}',
        b'{"model":["m"]}',
        b'{"model":{"model":"m"}}',
        b'{"model":null}',
        b'{"model":""}',
        b'{"model":"\xff"}',
        b'{"model":"\\ud800"}',
        b'{"model":"m","name":7}',
        b"\x28\xb5\x2f\xfd\x04\x58\x71\x00\x00" + b'{"model":"m"}',
        b"\x1f\x8b\x08\x00" + b"\x00" * 20,
        b"[" * 200_000,
        b'{"x":' + b"[" * 200_000 + b"]" * 200_000 + b',"model":"m"}',
        b'{"x":' + b'{"x":' * 200_000,
    ],
    ids=lambda body: body[:20].decode("ascii", "backslashreplace"),
)
@pytest.mark.parametrize("content_type", [JSON, FORM])
def test_a_body_that_names_no_model_is_no_trouble(body: bytes, content_type: str) -> None:
    assert model_of(body, content_type) is None


@given(st.binary(max_size=200), st.sampled_from([JSON, FORM, ""]))
def test_no_bytes_are_too_odd_to_be_looked_into(body: bytes, content_type: str) -> None:
    found = model_of(body, content_type)
    assert found is None or found == canonical(found)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=10,
)
NAMES = st.from_regex(r"[a-z][a-z0-9.]{0,6}(:[a-z0-9]{1,4})?", fullmatch=True)


@given(st.dictionaries(st.text(max_size=6).filter(lambda key: key not in {"model", "name"}), VALUES), NAMES)
def test_the_model_of_any_request_is_read_without_a_look_at_the_rest(rest: dict[str, object], name: str) -> None:
    assert model_of(json.dumps({**rest, "model": name}).encode(), JSON) == canonical(name)
    assert model_of(
        json.dumps({"model": name, **rest}, ensure_ascii=False).encode(errors="replace"), JSON
    ) == canonical(name)
    assert model_of(json.dumps(rest).encode(), JSON) is None


def part(disposition: str, content: bytes, *more: str) -> bytes:
    lines = [f"Content-Disposition: form-data; {disposition}", *more, "", ""]
    return "\r\n".join(lines).encode() + content


def form(*parts: bytes) -> bytes:
    return b"".join(b"--sep\r\n" + one + b"\r\n" for one in parts) + b"--sep--\r\n"


MODEL = part('name="model"', b"whisper")
SOUND = part('name="file"; filename="a.wav"', b"RIFF\x00\r\n\r\n\xff", "Content-Type: audio/wav")
LANGUAGE = part('name="language"', b"en")


@pytest.mark.parametrize(
    "parts",
    [
        (MODEL, SOUND, LANGUAGE),
        (SOUND, LANGUAGE, MODEL),
        (LANGUAGE, MODEL, SOUND),
        (part('name="file"; filename="model.wav"', b"RIFF\r\n", "Content-Type: audio/wav"), MODEL),
        (part('filename="model"; name="file"', b"RIFF\r\n"), MODEL),
        (part('name="model_version"', b"other"), part('name="models"', b"other"), MODEL),
        (part("name=model", b"whisper"), SOUND),
        (part('name="model"', b"whisper", "Content-Type: text/plain", "X-More: 1"), SOUND),
        (SOUND, part('name="model"; x=y', b"Whisper:latest")),
    ],
)
def test_the_model_of_a_form_is_its_field_of_that_name_wherever_it_stands(parts: tuple[bytes, ...]) -> None:
    assert model_of(form(*parts), FORM) == "whisper:latest"


@pytest.mark.parametrize("parts", [(), (SOUND, LANGUAGE), (part('name="model"', b""), LANGUAGE)])
def test_a_form_without_a_model_names_none(parts: tuple[bytes, ...]) -> None:
    assert model_of(form(*parts), FORM) is None


USUAL = {"num_ctx": 4096}


def said(**fields: Any) -> bytes:
    return json.dumps({"model": "m", **fields}).encode()


def test_the_next_turn_of_a_chat_begins_as_the_last_one_did() -> None:
    first = [{"role": "user", "content": "x" * 3000}]
    second = [*first, {"role": "assistant", "content": "y" * 3000}]
    one, other = peek(said(messages=first), USUAL), peek(said(messages=second), USUAL)
    assert len(one.prefix) == 5
    assert other.prefix[:5] == one.prefix
    assert other.prompt_bytes > 2 * 3000


@pytest.mark.parametrize("field", ["prompt", "system", "instructions", "input"])
def test_text_of_every_api_counts(field: str) -> None:
    assert peek(said(**{field: "x" * 1000}), USUAL).prompt_bytes == 1002


def test_images_say_nothing_of_how_many_tokens_a_prompt_has() -> None:
    assert peek(said(prompt="x", messages=[{"content": "x", "images": ["A" * 9000]}]), USUAL).prompt_bytes == 0


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({}, ""),
        ({"temperature": 0.5, "seed": 1}, ""),
        ({"num_ctx": 4096}, ""),
        ({"num_ctx": 8192, "temperature": 0.5}, '{"num_ctx":8192}'),
        ({"num_gpu": 0, "num_ctx": 8192}, '{"num_ctx":8192,"num_gpu":0}'),
        ({"use_mmap": None, "num_ctx": "8192"}, ""),
        ([1], ""),
        ("text", ""),
    ],
)
def test_options_that_make_ollama_load_a_model_anew_are_its_shape(options: object, shape: str) -> None:
    assert peek(said(prompt="x", options=options), USUAL).shape == shape


@pytest.mark.parametrize("keep_alive", [0, "0", "0s"])
def test_a_request_for_nothing_that_keeps_nothing_is_an_unload(keep_alive: object) -> None:
    assert peek(said(keep_alive=keep_alive), USUAL).unloads
    assert peek(said(keep_alive=keep_alive, prompt=""), USUAL).unloads
    assert not peek(said(keep_alive=keep_alive, prompt="x"), USUAL).unloads
    assert not peek(said(keep_alive="5m"), USUAL).unloads


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b"[" * 100_000])
def test_what_cannot_be_read_says_nothing(body: bytes) -> None:
    assert peek(body, USUAL) == NOTHING


@given(st.binary(max_size=30), st.sampled_from(["options", "messages", "keep_alive", "model", "x"]))
def test_whatever_stands_in_a_field_it_is_no_fault_of_ours(raw: bytes, field: str) -> None:
    for value in (raw, b'"' + raw + b'"', b'{"a": "' + raw + b'"}'):
        body = b'{"prompt": "x", "%b": %b}' % (field.encode(), value)
        assert peek(body, USUAL).shape == ""
        model_of(body, JSON)


def test_options_that_are_no_text_are_no_fault_of_ours() -> None:
    assert peek(b'{"prompt": "x", "options": {"\xf8": 1}}', USUAL).shape == ""
