"""Heads of responses: what is read, and what is refused because two readers could read it in two ways."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ollamad.errors import Malformed
from ollamad.upstream.head import FIELDS_MAX, HeadReader, parse_head, tokens

WHOLE = b"HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nX-Two:  1 \r\nx-two: 2\r\nContent-Length: 5"


def test_a_head_is_read_with_its_fields_in_their_order() -> None:
    head = parse_head(WHOLE)
    assert (head.status, head.reason, head.length, head.chunked, head.persistent) == (200, b"OK", 5, False, True)
    assert head.fields == ((b"Content-Type", b"a/b"), (b"X-Two", b"1"), (b"x-two", b"2"), (b"Content-Length", b"5"))
    assert (head.first(b"x-two"), head.first(b"none")) == (b"1", b"")


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\ncontent-length: 6",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5",
        b"HTTP/1.1 200 OK\r\nContent-Length: +5",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0x5",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5_0",
        b"HTTP/1.1 200 OK\r\nContent-Length:",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999999999999999",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked",
        b"HTTP/1.1 200 OK\r\nX: a\r\n folded",
        b"HTTP/1.1 200 OK\r\nX : a",
        b"HTTP/1.1 200 OK\r\n: a",
        b"HTTP/1.1 200 OK\r\nX",
        b"HTTP/1.1 200 OK\r\nX: a\nY: b",
        b"HTTP/1.1 200 OK\r\nX: a\rY: b",
        b"HTTP/1.1 200 OK\r\nX: a\x00b",
        b"HTTP/1.1 200 OK\r\nX\xff: a",
        b"HTTP/1.1 2000 OK",
        b"HTTP/1.1 020 OK",
        b"HTTP/1.1  200 OK",
        b"HTTP/2.0 200 OK",
        b"HTTP/1.2 200 OK",
        b"http/1.1 200 OK",
        b"ICY 200 OK",
        b"",
        b"HTTP/1.1 200 OK\r\n" + b"\r\n".join([b"X: a"] * (FIELDS_MAX + 1)),
    ],
)
def test_what_can_be_read_in_two_ways_is_refused(raw: bytes) -> None:
    with pytest.raises(Malformed):
        parse_head(raw)


@pytest.mark.parametrize(
    ("raw", "persistent"),
    [
        (b"HTTP/1.1 200 OK", True),
        (b"HTTP/1.1 200 OK\r\nConnection: X-Hop, Close", False),
        (b"HTTP/1.1 200", True),
        (b"HTTP/1.0 200 OK", False),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive", True),
    ],
)
def test_a_head_says_whether_the_connection_stays(raw: bytes, persistent: bool) -> None:  # noqa: FBT001
    assert parse_head(raw).persistent is persistent


@pytest.mark.parametrize(
    ("method", "status", "has"),
    [("GET", 200, True), ("HEAD", 200, False), ("GET", 204, False), ("GET", 304, False), ("POST", 500, True)],
)
def test_some_responses_have_no_body_whatever_their_fields_say(method: str, status: int, has: bool) -> None:  # noqa: FBT001
    assert parse_head(b"HTTP/1.1 %d X\r\nContent-Length: 5" % status).has_body(method) is has


@given(st.integers(1, 60))
def test_a_head_is_put_together_from_any_pieces_and_the_rest_is_left(size: int) -> None:
    raw = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + WHOLE + b"\r\n\r\n"
    reader, rest = HeadReader(4096), b"the body"
    pieces = [raw[at : at + size] for at in range(0, len(raw), size)]
    found = [reader.feed(piece) for piece in [*pieces[:-1], pieces[-1] + rest]]
    assert all(nothing is None for nothing in found[:-1])
    assert found[-1] == (parse_head(WHOLE), rest)


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 9,
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 4096,
    ],
)
def test_what_never_becomes_a_head_is_refused_at_once(raw: bytes) -> None:
    with pytest.raises(Malformed):
        HeadReader(4096).feed(raw)


@given(st.binary(max_size=200))
@example(b"HTTP/1.1 200 OK\r\n\r\n")
def test_whatever_comes_is_a_head_or_refused(raw: bytes) -> None:
    try:
        HeadReader(100).feed(raw)
    except Malformed:
        return


def test_tokens_are_compared_in_lower_case() -> None:
    assert tokens(b" Close ,,X-Hop") == {b"close", b"x-hop"}
