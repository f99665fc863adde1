from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamad.log import as_json, printable


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("ü\n", "ü\n"),
        ("/a\udcff", "/a\udcff"),
        (1 << 80, 1 << 80),
        (Path("/x"), "PosixPath('/x')"),
        ({1: ("a", None)}, {"1": ["a", None]}),
    ],
)
def test_whatever_an_event_holds_is_one_line_of_json(value: object, told: object) -> None:
    line = as_json(None, "info", {"event": "e", "value": value})
    assert b"\n" not in line
    assert json.loads(line) == {"event": "e", "value": told}


@given(st.text())
def test_nothing_on_a_terminal_obeys_a_stranger(text: str) -> None:
    told = str(printable(None, "info", {"event": "e", "path": text})["path"])
    assert told.isprintable()
    assert told == text or not text.isprintable()


def test_what_a_path_would_do_to_a_terminal_is_seen_instead() -> None:
    event = {"path": "/\x1b[31mred\n\u202e", "status": 404, "model": "ü m"}
    assert printable(None, "info", event) == {"path": r"/\x1b[31mred\n\u202e", "status": 404, "model": "ü m"}
