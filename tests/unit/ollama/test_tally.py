from __future__ import annotations

import json

import pytest

from ollamad.ollama.tally import tally_of
from ollamad.routing.knowledge import Tally

NATIVE = {
    "model": "m",
    "response": "",
    "done": True,
    "context": list(range(3000)),
    "total_duration": 5_000_000_000,
    "load_duration": 250_000_000,
    "prompt_eval_count": 120,
    "prompt_eval_duration": 500_000_000,
    "eval_count": 80,
    "eval_duration": 4_000_000_000,
}
FULL = Tally(0.25, 120, 0.5, 80, 4.0)


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
def test_the_last_record_of_a_native_stream_has_all_counts(separators: tuple[str, str]) -> None:
    stream = b'{"response":"hi"}\n' + json.dumps(NATIVE, separators=separators).encode() + b"\n"
    assert tally_of(stream) == FULL
    assert tally_of(stream[-8192:]) == FULL


def test_usage_of_openai_and_of_anthropic_has_tokens_but_no_times() -> None:
    openai = (
        b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":9,"total_tokens":16}}\n\ndata: [DONE]\n\n'
    )
    assert tally_of(openai) == Tally(prompt_tokens=7, output_tokens=9)
    anthropic = b'event: message_delta\ndata: {"usage":{"input_tokens":7,"output_tokens":9}}\n\n'
    assert tally_of(anthropic) == Tally(prompt_tokens=7, output_tokens=9)


def test_a_text_that_looks_like_counts_is_a_text() -> None:
    text = json.dumps({"response": '"eval_count":999,"prompt_eval_count":998', "eval_count": 1}).encode()
    assert tally_of(text) == Tally(output_tokens=1)


@pytest.mark.parametrize(
    "tail", [b"", b"\xff\xfe", b'{"eval_count":-5}', b'{"eval_count":"5"}', b'{"eval_count":null}']
)
def test_what_has_no_counts_gives_none(tail: bytes) -> None:
    assert tally_of(tail) == Tally()
