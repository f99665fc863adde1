from __future__ import annotations

import json
from pathlib import Path

import pytest

from ollamad.log import as_json


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
