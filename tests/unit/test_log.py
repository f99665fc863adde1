from __future__ import annotations

import contextvars
import json
import os
import pty
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from ollamad.config.schema import Log
from ollamad.log import REQUEST, Format, access, as_entry, as_json, brief, format_of, head_first, printable, set_up


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


def lines(**event: Any) -> list[str]:
    """An event as the journal gets it, where no value takes more than a line."""
    return as_entry(None, "info", event).decode().splitlines()


def test_the_journal_gets_a_message_to_read_and_each_fact_as_a_field() -> None:
    assert lines(
        event="child ready", level="warning", child="gpu1", life=2, request_id="a b", held=["x"], gone=None
    ) == [
        'MESSAGE=child ready child=gpu1 life=2 request_id="a b" held=["x"]',
        "PRIORITY=4",
        "SYSLOG_IDENTIFIER=ollamad",
        "OLLAMAD_EVENT=child ready",
        "OLLAMAD_CHILD=gpu1",
        "OLLAMAD_LIFE=2",
        "OLLAMAD_REQUEST_ID=a b",
        'OLLAMAD_HELD=["x"]',
    ]


def test_a_long_value_is_whole_in_its_field_and_short_in_the_message() -> None:
    message, *_, field = lines(event="e", line="x" * 1000)
    assert message == f"MESSAGE=e line={'x' * 300}…"
    assert field == f"OLLAMAD_LINE={'x' * 1000}"


def test_a_traceback_stands_below_the_message() -> None:
    datagram = as_entry(None, "error", {"event": "request crashed", "level": "error", "exception": "Traceback\n  x"})
    assert b"request crashed\nTraceback\n  x\n" in datagram
    assert b"OLLAMAD_EXCEPTION" not in datagram


@given(st.dictionaries(st.sampled_from(["model", "path", "child"]), st.text(max_size=50) | st.integers(), max_size=3))
def test_the_message_holds_nothing_that_a_terminal_would_obey_or_that_begins_a_field(event: dict[str, Any]) -> None:
    message = as_entry(None, "info", {"event": "e", **event}).split(b"\n", 1)[0].decode()
    assert message.startswith("MESSAGE=e")
    assert message.isprintable()


@pytest.mark.parametrize("setting", ["console", "json", "journal"])
def test_a_format_that_is_set_is_that(setting: str) -> None:
    assert format_of(setting, 2, {}) is Format(setting)


def test_auto_is_console_on_a_terminal_and_json_in_a_file(tmp_path: Path) -> None:
    master, terminal = pty.openpty()
    with (tmp_path / "log").open("wb") as file:
        assert format_of("auto", terminal, {}) is Format.CONSOLE
        assert format_of("auto", file.fileno(), {"JOURNAL_STREAM": "1:1"}) is Format.JSON
    os.close(master)
    os.close(terminal)


@given(st.text())
def test_nothing_on_a_terminal_obeys_a_stranger(text: str) -> None:
    told = str(printable(None, "info", {"event": "e", "path": text})["path"])
    assert told.isprintable()
    assert told == text or not text.isprintable()


def test_what_a_path_would_do_to_a_terminal_is_seen_instead() -> None:
    event = {"path": "/\x1b[31mred\n\u202e", "status": 404, "model": "ü m"}
    assert printable(None, "info", event) == {"path": r"/\x1b[31mred\n\u202e", "status": 404, "model": "ü m"}


def told(monkeypatch: pytest.MonkeyPatch, path: Path, settings: Log) -> list[str]:
    """The lines of one event told both ways, while a request is served."""
    with path.open("wb") as file, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", file)
        set_up(settings)
        try:
            contextvars.copy_context().run(_tell)
        finally:
            structlog.reset_defaults()
    return path.read_text().splitlines()


def _tell() -> None:
    REQUEST.set({"request_id": "7", "client": "127.0.0.1"})
    structlog.get_logger().info("request served", path="/x", status=200)
    access("request served", {"path": "/x", "status": 200})


def test_the_access_log_is_told_at_once_as_structlog_would_tell_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    usual, at_once = (json.loads(line) for line in told(monkeypatch, tmp_path / "log", Log(format="json")))
    stamps = [line.pop("timestamp") for line in (usual, at_once)]
    assert list(usual.items()) == list(at_once.items())
    assert usual["request_id"] == "7"
    for stamp in stamps:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", stamp)


def test_the_access_log_goes_the_usual_way_where_lines_are_no_json(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    usual, other = told(monkeypatch, tmp_path / "log", Log(format="console"))
    assert usual.partition(" ")[2] == other.partition(" ")[2]
    assert "request_id" in usual


def test_the_access_log_is_silent_where_info_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert told(monkeypatch, tmp_path / "log", Log(format="json", level="warning")) == []


def test_a_terminal_is_spared_facts_that_are_none_and_the_length_of_others() -> None:
    event = {"event": "e", "reason": None, "line": "x" * 1000, "exception": "y" * 1000}
    assert brief(None, "info", event) == {"event": "e", "line": f"{'x' * 300}…", "exception": "y" * 1000}


def test_a_line_of_json_begins_with_when_how_bad_and_what() -> None:
    event = {"child": "gpu0", "event": "child ready", "level": "info", "timestamp": "now"}
    assert list(head_first(None, "info", event)) == ["timestamp", "level", "event", "child"]


@pytest.mark.parametrize(("value", "coloured"), [("", True), ("1", False)])
def test_no_color_is_heeded(monkeypatch: pytest.MonkeyPatch, value: str, *, coloured: bool) -> None:
    master, terminal = pty.openpty()
    try:
        monkeypatch.setenv("NO_COLOR", value)
        monkeypatch.setattr(sys, "stderr", os.fdopen(os.dup(terminal), "w"))
        with sys.stderr:
            set_up(Log(format="console"))
            structlog.get_logger().warning("child died", child="gpu0")
        assert (b"\x1b[" in os.read(master, 4096)) is coloured
    finally:
        structlog.reset_defaults()
        os.close(master)
        os.close(terminal)
