from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamad.access.malformed import TOLD_MAX, what_was_wrong


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        (
            "400, message:\n  Bad status line:\n    Expected HTTP/:\n\n    b'GET x'\n   ^",
            "Bad status line: Expected HTTP/",
        ),
        ("Invalid header token:\n\n    b'Authorization: Bearer olk_x'\n  ^", "Invalid header token"),
        ('Missing expected LF:\n\n  b"X-Api-Key: it\'s"\n', "Missing expected LF"),
        ("Got more than 16384 bytes when reading: b'Authorization'.", "Got more than 16384 bytes when reading"),
        ("Can't read it", "Can't read it"),
        ("Missing 'Host' header in request.", "Missing Host header in request."),
        ("400, message:\n  Duplicate 'content-length' header found.", "Duplicate content-length header found."),
        ("Duplicate 'olk_x' header", "the request could not be read"),
        ("400, message:\n  http://[::1?key=olk_x", "the request could not be read"),
        ("http://a:99999/\xa0olk_x", "the request could not be read"),
        ("*", "the request could not be read"),
        ("", "the request could not be read"),
        ("b'secret'", "the request could not be read"),
    ],
)
def test_the_reason_stays_and_the_bytes_go(reason: str, told: str) -> None:
    assert what_was_wrong(reason) == told


@given(st.binary(min_size=1, max_size=300), st.sampled_from([": ", " ", "\n\n    "]))
def test_no_bytes_are_ever_quoted(raw: bytes, before: str) -> None:
    told = what_was_wrong(f"Invalid header token{before}{raw!r}\n ^")
    assert told == "Invalid header token"
    assert len(what_was_wrong("x " * 1000)) == TOLD_MAX
