"""Errors as each API's clients expect them, before a response and inside one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamad.proxy.shapes import error_body, error_response, in_band_error, whole_by
from ollamad.upstream.tail import Tail

NDJSON = "application/x-ndjson"
SSE = "text/event-stream"
PATHS = ("/api/chat", "/v1/chat/completions", "/v1/messages")
RECORDS = st.dictionaries(st.text(max_size=4), st.text(max_size=6), max_size=3)


@pytest.mark.parametrize("path", ["/api/chat", "/", "/unknown", "/v1", "/v10/x"])
def test_ollamas_errors_are_one_field(path: str) -> None:
    assert error_body(path, 503, "busy") == {"error": "busy"}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (403, "permission_error"),
        (413, "request_too_large"),
        (502, "api_error"),
        (503, "overloaded_error"),
    ],
)
def test_openais_and_anthropics_errors_have_a_type_by_status(status: int, kind: str) -> None:
    openai = {"error": {"message": "m", "type": kind, "param": None, "code": None}}
    anthropic = {"type": "error", "error": {"type": kind, "message": "m"}}
    assert error_body("/v1/chat/completions", status, "m") == error_body("/v1/embeddings", status, "m") == openai
    assert error_body("/v1/messages", status, "m") == error_body("/v1/messages/count_tokens", status, "m") == anthropic


@pytest.mark.parametrize("path", PATHS)
def test_an_error_response_is_json_with_its_status_and_when_to_come_back(path: str) -> None:
    response = error_response(path, 503, "wait", retry_after_s=4)
    assert (response.status, response.content_type) == (503, "application/json")
    assert json.loads(response.text or "") == error_body(path, 503, "wait")
    assert response.headers["Retry-After"] == "4"
    assert "Retry-After" not in error_response(path, 502, "broken").headers


def broken_at(stream: bytes, at: int, path: str, content_type: str, message: str) -> bytes:
    """What a client has read of a stream that broke there."""
    sent = stream[:at]
    told = in_band_error(path, content_type, message, mid_line=bool(sent) and not sent.endswith(b"\n"))
    assert told is not None
    return sent + told


@given(st.lists(RECORDS, max_size=3), st.data(), st.text(max_size=8), st.sampled_from(PATHS))
def test_wherever_an_ndjson_stream_breaks_its_last_line_is_the_error_and_whole_lines_stay(
    records: list[dict[str, str]], data: st.DataObject, message: str, path: str
) -> None:
    stream = b"".join(json.dumps(record).encode() + b"\n" for record in records)
    at = data.draw(st.integers(0, len(stream)))
    read = broken_at(stream, at, path, NDJSON, message)
    assert read.endswith(b"\n")
    *before, last = read.split(b"\n")[:-1]
    assert json.loads(last) == error_body(path, 502, message)
    whole = stream[:at].count(b"\n")
    assert [json.loads(line) for line in before[:whole]] == records[:whole]
    assert len(before) == whole + (at > 0 and stream[at - 1 : at] != b"\n")


@given(
    st.lists(RECORDS, max_size=3),
    st.sampled_from(["", "event: delta\n"]),
    st.data(),
    st.text(max_size=8),
    st.sampled_from(PATHS),
)
def test_wherever_an_event_stream_breaks_its_last_event_is_the_error_and_whole_events_stay(
    records: list[dict[str, str]], name: str, data: st.DataObject, message: str, path: str
) -> None:
    stream = "".join(f"{name}data: {json.dumps(record)}\n\n" for record in records).encode()
    at = data.draw(st.integers(0, len(stream)))
    *before, last = events(broken_at(stream, at, path, SSE, message).decode())
    assert last == ("error" if path == "/v1/messages" else "message", error_body(path, 502, message))
    whole = stream[:at].count(b"\n\n")
    assert before[:whole] == [("delta" if name else "message", record) for record in records[:whole]]
    assert len(before) <= whole + 1


def events(text: str) -> list[tuple[str, Any]]:
    """An event stream as a browser reads it; data that is no JSON is given as text."""
    found: list[tuple[str, Any]] = []
    name, data = "message", list[str]()
    for line in text.split("\n"):
        field, _, value = line.partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            data.append(value)
        elif not line:
            if data:
                found.append((name, parsed("\n".join(data))))
            name, data = "message", []
    assert not data, "an event that is not over"
    return found


def parsed(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "application/octet-stream", ""])
def test_a_format_without_records_has_no_place_for_an_error(content_type: str) -> None:
    assert in_band_error("/api/chat", content_type, "m", mid_line=False) is None


ENDS = [
    ("/api/generate", NDJSON, b'{"response":"","done":true,"eval_count":3}\n'),
    ("/api/chat", NDJSON, b'{"error":"an unknown error was encountered while running the model "}\n'),
    ("/v1/completions", SSE, b"data: [DONE]\n\n"),
    ("/v1/chat/completions", SSE, b"data: [DONE]\n\n"),
    ("/v1/chat/completions", SSE, b'data: {"error":{"message":"m"}}\n\n'),
    ("/v1/messages", SSE, b'event: message_stop\ndata: {"type":"message_stop"}\n\n'),
    ("/v1/messages", SSE, b'event: error\ndata: {"type":"error","error":{"type":"api_error"}}\n\n'),
]


@pytest.mark.parametrize(("path", "kind", "last"), ENDS)
def test_a_stream_is_whole_by_its_last_record_alone(path: str, kind: str, last: bytes) -> None:
    is_whole = whole_by(path, kind)
    assert is_whole is not None
    words = b'{"response":" \\"done\\":true \\"error\\" data: [DONE] message_stop","done":false}'
    before = words + b"\n" if kind == NDJSON else b"data: " + words + b"\n\n"
    assert is_whole(before + last)
    assert not is_whole(before)
    assert not is_whole(b"")
    assert not is_whole(last[: len(last) // 2])


def test_a_last_record_of_which_only_the_end_is_known_passes_for_one() -> None:
    """`/api/generate` says `done` first, and then the whole context."""
    is_whole = whole_by("/api/generate", NDJSON)
    assert is_whole is not None
    record = b'{"response":"","done":true,"context":[%b],"eval_count":3}\n'
    for numbers in (10, 1000, 1500, 2000, 10_000):
        tail = Tail()
        tail.add(b'{"response":" a","done":false}\n' * 20)
        tail.add(record % b",".join([b"12345"] * numbers))
        assert is_whole(tail.bytes()), numbers
        tail.add(b'{"response":" a","done":false}\n')
        assert not is_whole(tail.bytes()), numbers


def test_of_what_is_no_stream_of_an_answer_nothing_is_known() -> None:
    assert whole_by("/api/pull", NDJSON) is None
    assert whole_by("/api/generate", "application/json") is None
    assert whole_by("/v1/responses", SSE) is None
