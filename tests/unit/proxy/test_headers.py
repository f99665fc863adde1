from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from ollamad.proxy.headers import HOP_BY_HOP, to_child, to_client

Pairs = list[tuple[str, str]]

NAMES = st.sampled_from(
    ["Accept", "Authorization", "Content-Type", "Content-Length", "Cookie", "Set-Cookie", "X-One", "x-two"]
)
VALUES = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=6)
PAIRS = st.lists(st.tuples(NAMES, VALUES), max_size=6)
HOPS = st.lists(st.tuples(st.sampled_from(sorted(HOP_BY_HOP - {"connection"})).map(str.title), VALUES), max_size=3)


def headers(*pairs: tuple[str, str]) -> CIMultiDictProxy[str]:
    return CIMultiDictProxy(CIMultiDict(pairs))


def child_gets(*pairs: tuple[str, str], scheme: str = "http") -> Pairs:
    return list(to_child(headers(*pairs), scheme).items())


def client_gets(*pairs: tuple[str, str]) -> Pairs:
    return list(to_client(headers(*pairs), {}).items())


@given(PAIRS, HOPS, st.randoms(use_true_random=False))
def test_end_to_end_headers_pass_both_ways_in_their_order_and_number_and_no_other_does(
    pairs: Pairs, hops: Pairs, luck: random.Random
) -> None:
    mixed: Pairs = [*pairs, *hops]
    luck.shuffle(mixed)
    kept = [pair for pair in mixed if pair in pairs]
    assert child_gets(*mixed) == kept
    assert client_gets(*mixed) == kept


@pytest.mark.parametrize("passes", [child_gets, client_gets])
@pytest.mark.parametrize("name", [*sorted(HOP_BY_HOP), "Transfer-Encoding", "KEEP-ALIVE"])
def test_what_belongs_to_one_connection_stays_there(passes: object, name: str) -> None:
    assert callable(passes)
    assert passes((name, "x"), ("X-Kept", "1")) == [("X-Kept", "1")]


@pytest.mark.parametrize("passes", [child_gets, client_gets])
def test_what_connection_names_belongs_to_one_connection_too(passes: object) -> None:
    assert callable(passes)
    said = [
        ("Connection", "close, X-Hop ,"),
        ("connection", "x-other"),
        ("x-hop", "1"),
        ("X-Hop", "2"),
        ("X-Other", "3"),
        ("X-Kept", "4"),
    ]
    assert passes(*said) == [("X-Kept", "4")]


def test_a_header_that_comes_twice_is_passed_twice() -> None:
    said = [("Set-Cookie", "a=1"), ("X-One", "x"), ("Set-Cookie", "b=2"), ("set-cookie", "a=1")]
    assert client_gets(*said) == said
    assert child_gets(*said) == said


@pytest.mark.parametrize("name", ["Host", "host", "Expect"])
def test_what_is_meant_for_our_listener_is_not_for_the_child(name: str) -> None:
    assert child_gets((name, "x"), ("Accept", "*/*")) == [("Accept", "*/*")]
    assert client_gets((name, "x")) == [(name, "x")]


@pytest.mark.parametrize(
    ("origin", "scheme"), [("http://ollama.example:8080", "http"), ("https://ollama.example:8080", "https")]
)
def test_an_origin_that_is_ourselves_is_not_for_the_child_to_judge(origin: str, scheme: str) -> None:
    assert child_gets(("Host", "ollama.example:8080"), ("Origin", origin), scheme=scheme) == []


@pytest.mark.parametrize(
    "origin", ["https://ollama.example:8080", "http://ollama.example", "http://evil.example", "null", "http://", ""]
)
def test_any_other_origin_is_left_for_the_child_to_judge(origin: str) -> None:
    assert child_gets(("Host", "ollama.example:8080"), ("Origin", origin)) == [("Origin", origin)]


def test_an_origin_of_a_request_without_a_host_is_left_too() -> None:
    assert child_gets(("Origin", "http://localhost")) == [("Origin", "http://localhost")]


def test_what_ollamad_adds_is_there_once_whatever_the_child_said() -> None:
    said = headers(("x-ollamad-child", "faked"), ("X-Ollamad-Child", "twice"), ("Set-Cookie", "a"), ("Set-Cookie", "b"))
    added = to_client(said, {"X-Ollamad-Child": "gpu0", "X-Ollamad-Queue-Ms": "7"})
    assert added.getall("X-Ollamad-Child") == ["gpu0"]
    assert added.getall("X-Ollamad-Queue-Ms") == ["7"]
    assert added.getall("Set-Cookie") == ["a", "b"]


def test_the_headers_that_came_are_left_as_they_are() -> None:
    said = headers(("Connection", "x-hop"), ("X-Hop", "1"), ("Host", "h"))
    to_child(said, "http")
    to_client(said, {"X": "y"})
    assert list(said) == ["Connection", "X-Hop", "Host"]
