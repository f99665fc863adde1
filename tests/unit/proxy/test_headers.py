"""What passes to a child and back."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamad.proxy.headers import (
    FORWARDING,
    HOP_BY_HOP,
    NOT_IN_TRAILERS,
    request_head,
    response_head,
    to_child,
    to_client,
    trailers,
)
from ollamad.upstream.head import Field, parse_head

Passes = Callable[[list[Field]], list[Field]]
NAMES = st.sampled_from([b"Accept", b"Accept-Language", b"Content-Type", b"Cookie", b"Set-Cookie", b"X-One", b"x-two"])
VALUES = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=6).map(str.encode)
FIELDS = st.lists(st.tuples(NAMES, VALUES), max_size=6)
HOPS = st.lists(st.tuples(st.sampled_from(sorted(HOP_BY_HOP - {b"connection"})).map(bytes.title), VALUES), max_size=3)


def client_gets(fields: list[Field]) -> list[Field]:
    return to_client(fields, {})


@given(FIELDS, HOPS, st.randoms(use_true_random=False))
def test_end_to_end_fields_pass_both_ways_in_their_order_and_number_and_no_other_does(
    fields: list[Field], hops: list[Field], luck: random.Random
) -> None:
    mixed = [*fields, *hops]
    luck.shuffle(mixed)
    kept = [field for field in mixed if field in fields]
    assert to_child(mixed) == kept
    assert client_gets(mixed) == kept


@pytest.mark.parametrize("passes", [to_child, client_gets])
@pytest.mark.parametrize("name", [*sorted(HOP_BY_HOP), b"Transfer-Encoding", b"KEEP-ALIVE", b"Content-Length"])
def test_what_belongs_to_one_connection_stays_there(passes: Passes, name: bytes) -> None:
    assert passes([(name, b"x"), (b"X-Kept", b"1")]) == [(b"X-Kept", b"1")]


@pytest.mark.parametrize("passes", [to_child, client_gets])
def test_what_connection_names_belongs_to_one_connection_too(passes: Passes) -> None:
    said = [
        (b"X-Early", b"0"),
        (b"Connection", b"close, X-Hop ,x-early"),
        (b"connection", b"x-other"),
        (b"x-hop", b"1"),
        (b"X-Hop", b"2"),
        (b"X-Other", b"3"),
        (b"X-Kept", b"4"),
    ]
    assert passes(said) == [(b"X-Kept", b"4")]


@pytest.mark.parametrize("name", [b"Host", b"expect", b"Origin", b"Authorization", b"X-API-Key", *sorted(FORWARDING)])
def test_what_is_meant_for_our_listener_is_not_for_the_child(name: bytes) -> None:
    assert to_child([(name, b"x"), (b"Accept", b"*/*")]) == [(b"Accept", b"*/*")]
    assert client_gets([(name, b"x")]) == [(name, b"x")]


def test_what_ollamad_adds_is_there_once_whatever_the_child_said() -> None:
    said = [
        (b"x-ollamad-child", b"faked"),
        (b"Set-Cookie", b"a"),
        (b"X-Ollamad-Child", b"twice"),
        (b"Set-Cookie", b"b"),
    ]
    added = to_client(said, {"X-Ollamad-Child": "gpu0", "X-Ollamad-Queue-Ms": "7"})
    assert added == [
        (b"Set-Cookie", b"a"),
        (b"Set-Cookie", b"b"),
        (b"X-Ollamad-Child", b"gpu0"),
        (b"X-Ollamad-Queue-Ms", b"7"),
    ]


@given(FIELDS)
def test_heads_are_written_as_they_are_read(fields: list[Field]) -> None:
    head = parse_head(b"HTTP/1.1 418 I'm a teapot\r\nConnection: close")
    written = response_head(head, {}, fields)
    assert written.endswith(b"\r\n\r\n")
    again = parse_head(written[:-4])
    assert (again.status, again.reason, list(again.fields)) == (418, b"I'm a teapot", fields)
    assert request_head("POST", b"/x?y", fields).startswith(b"POST /x?y HTTP/1.1\r\n")


def test_a_trailer_can_t_change_what_it_follows() -> None:
    fields = [(b"X-Sum", b"1"), *((name.title(), b"x") for name in NOT_IN_TRAILERS)]
    assert trailers(fields) == b"X-Sum: 1\r\n"
