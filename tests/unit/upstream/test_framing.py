"""Where bodies end: laws over every way that a child may cut them into pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamad.errors import Malformed
from ollamad.upstream.framing import (
    LINE_MAX_BYTES,
    ONE_CHUNK_MAX_BYTES,
    Body,
    Chunked,
    Sized,
    UntilClose,
    body_of,
    chunk,
)
from ollamad.upstream.head import parse_head

BODIES = st.lists(st.binary(min_size=1, max_size=40), max_size=6)
EXTENSIONS = st.sampled_from([b"", b";a", b";a=b", b' ;q="x y"', b"; a=1;b"])
TRAILERS = st.lists(st.sampled_from([b"X-Sum: 1", b"X-End: yes"]), max_size=2)
CUTS = st.lists(st.integers(1, 12), min_size=1, max_size=40)


def cut(raw: bytes, sizes: list[int]) -> list[bytes]:
    """The bytes in pieces of these sizes, over and over."""
    pieces, at, turn = [], 0, 0
    while at < len(raw):
        size = sizes[turn % len(sizes)]
        pieces.append(raw[at : at + size])
        at, turn = at + size, turn + 1
    return pieces


def fed(body: Body, pieces: list[bytes]) -> bytes:
    return b"".join(part for piece in pieces for part in body.feed(piece))


@st.composite
def chunked(draw: st.DrawFn) -> tuple[bytes, bytes, int]:
    """A chunked body on the wire, what is in it, and how many trailers it has."""
    contents, trailers = draw(BODIES), draw(TRAILERS)
    wire = b"".join(b"%x%b\r\n%b\r\n" % (len(part), draw(EXTENSIONS), part) for part in contents)
    wire += b"0%b\r\n%b\r\n" % (draw(EXTENSIONS), b"".join(line + b"\r\n" for line in trailers))
    return wire, b"".join(contents), len(trailers)


@given(chunked(), CUTS)
def test_a_chunked_body_is_read_alike_however_it_is_cut(made: tuple[bytes, bytes, int], sizes: list[int]) -> None:
    wire, content, trailers = made
    body = Chunked()
    for piece in cut(wire, sizes)[:-1]:
        assert not body.done
        content = content.removeprefix(b"".join(body.feed(piece)))
    assert b"".join(body.feed(cut(wire, sizes)[-1])) == content
    assert (body.done, body.surplus, body.end(), len(body.trailers)) == (True, False, True, trailers)


@given(st.one_of(st.binary(max_size=30), st.binary(max_size=300).map(lambda data: chunk(data or b"x")), chunked()))
def test_what_is_taken_for_one_chunk_at_a_glance_is_one(made: bytes | tuple[bytes, bytes, int]) -> None:
    wire = made if isinstance(made, bytes) else made[0]
    for end in range(len(wire) + 1):
        glance, body = Chunked().one(wire[:end]), Chunked()
        assert glance is None or (body.feed(wire[:end]), body.as_is, body.done) == ([glance], True, False)


@pytest.mark.parametrize("size", [*range(1, 300), 4095 - 6, 4096 - 7])
def test_a_chunk_as_servers_write_it_is_known_at_a_glance(size: int) -> None:
    assert Chunked().one(chunk(b"\r" * size)) == b"\r" * size


@pytest.mark.parametrize(
    "wire",
    [
        b"",
        b"0\r\n\r\n",
        b"\r\n" + b"x" * 17 + b"\r\n",  # of no size can a chunk be 21 bytes long
        b"05\r\nhello\r\n",
        b"5;a\r\nhello\r\n",
        b"5\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\r\n5\r\nworld\r\n",
        b"5\r\nhelloXX",
        chunk(b"x" * ONE_CHUNK_MAX_BYTES),
    ],
)
def test_what_is_anything_else_is_left_to_a_closer_look(wire: bytes) -> None:
    assert Chunked().one(wire) is None


@pytest.mark.parametrize("before", [b"5", b"5\r\n", b"20\r\nhello", b"5\r\nhello", b"0\r\n"])
def test_what_looks_like_a_chunk_within_another_is_none(before: bytes) -> None:
    body = Chunked()
    body.feed(before)
    assert body.one(chunk(b"hello")) is None


@given(chunked(), CUTS)
def test_what_may_pass_as_it_is_is_whole_chunks(made: tuple[bytes, bytes, int], sizes: list[int]) -> None:
    body, again = Chunked(), Chunked()
    for piece in cut(made[0], sizes):
        parts = body.feed(piece)
        out = piece if body.as_is else b"".join(map(chunk, parts))
        assert b"".join(again.feed(out)) == b"".join(parts)
        assert again._left == 0, "a record could be added after this"
        if body.done:
            break


@given(chunked(), CUTS, st.binary(min_size=1, max_size=20))
def test_bytes_after_the_end_are_never_part_of_the_body(
    made: tuple[bytes, bytes, int], sizes: list[int], surplus: bytes
) -> None:
    body = Chunked()
    pieces = cut(made[0], sizes)
    assert fed(body, [*pieces[:-1], pieces[-1] + surplus]) == made[1]
    assert (body.done, body.surplus, body.as_is) == (True, True, False)


@given(chunked(), st.data())
def test_a_chunked_body_that_is_cut_short_is_not_whole(made: tuple[bytes, bytes, int], data: st.DataObject) -> None:
    body = Chunked()
    body.feed(made[0][: data.draw(st.integers(0, len(made[0]) - 1))])
    assert not body.end()


@given(st.binary(max_size=80), CUTS)
def test_whatever_comes_is_a_body_or_refused(raw: bytes, sizes: list[int]) -> None:
    body = Chunked()
    try:
        for piece in cut(raw, sizes):
            if body.done:
                return
            body.feed(piece)
    except Malformed:
        return


@pytest.mark.parametrize("one_by_one", [False, True])
@pytest.mark.parametrize(
    "wire",
    [
        b"+5\r\nhello\r\n",
        b"-5\r\nhello\r\n",
        b"0x5\r\nhello\r\n",
        b"5_0\r\nhello\r\n",
        b" 5\r\nhello\r\n",
        b"5\nhello\r\n",
        b"5\rhello\r\n",
        b"5;a\nb\r\nhello\r\n",
        b"5;a\x00\r\nhello\r\n",
        b"\r\nhello\r\n",
        b"g\r\nhello\r\n",
        b"ffffffffffffffffff\r\nhello\r\n",
        b"5\r\nhelloX\r\n",
        b"5\r\nhello\n\r\n",
        b"5\r\nhello\r0\r\n",
        b"4\r\nhello\r\n",
        b"0\r\nbad trailer\r\n\r\n",
        b"0\r\n X: folded\r\n\r\n",
        b"0\r\nX: a\nY: b\r\n\r\n",
        b"5;" + b"x" * (LINE_MAX_BYTES + 1) + b"\r\n",
        b"0\r\n" + b"X: aaaaaaaaaaaaaaaaaa\r\n" * 400,
    ],
)
def test_tricks_with_chunks_are_refused(wire: bytes, one_by_one: bool) -> None:  # noqa: FBT001
    with pytest.raises(Malformed):
        fed(Chunked(), cut(wire + b"zzz\r\nzzz\r\n", [1] if one_by_one else [1 << 20]))


@given(st.binary(max_size=40), CUTS, st.binary(max_size=5))
def test_a_sized_body_ends_where_it_says(content: bytes, sizes: list[int], surplus: bytes) -> None:
    body = Sized(len(content))
    pieces = cut(content, sizes)
    got = b"".join(part for piece in pieces[:-1] for part in body.feed(piece))
    if pieces:
        assert not body.done
        got += b"".join(body.feed(pieces[-1] + surplus))
        assert (body.surplus, body.as_is) == (bool(surplus), not surplus)
    assert (got, body.done, body.end()) == (content, True, True)


def test_a_sized_body_that_is_cut_short_is_not_whole() -> None:
    body = Sized(5)
    body.feed(b"hell")
    assert not body.end()


def test_a_body_without_a_length_ends_with_its_connection() -> None:
    body = UntilClose()
    assert (fed(body, [b"a", b"", b"b"]), body.done) == (b"ab", False)
    assert (body.end(), body.done) == (True, True)


@pytest.mark.parametrize(
    ("raw", "method", "kind"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5", "GET", Sized),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", "GET", Chunked),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", "HEAD", Sized),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5", "GET", Sized),
        (b"HTTP/1.0 200 OK", "GET", UntilClose),
    ],
)
def test_the_head_decides_how_a_body_is_read(raw: bytes, method: str, kind: type) -> None:
    assert type(body_of(parse_head(raw), method)) is kind
