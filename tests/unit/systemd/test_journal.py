from __future__ import annotations

import os
import socket
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamad.systemd import journal
from ollamad.systemd.journal import ENTRY_MAX_BYTES, FIELD_MAX_BYTES, ToJournal, entry, is_journal


def parsed(datagram: bytes) -> list[tuple[bytes, bytes]]:
    """The fields of a datagram, read as the journal reads them."""
    fields = []
    while datagram:
        line, _, rest = datagram.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            (length,) = struct.unpack_from("<Q", rest)
            value, datagram = rest[8 : 8 + length], rest[8 + length + 1 :]
            assert rest[8 + length : 8 + length + 1] == b"\n"
        else:
            datagram = rest
        fields.append((name, value))
    return fields


NAMES = st.from_regex(r"[A-Z][A-Z0-9_]{0,20}", fullmatch=True)


@given(st.lists(st.tuples(NAMES, st.text(max_size=200)), max_size=20))
def test_whatever_the_values_are_the_journal_reads_these_fields_and_no_others(fields: list[tuple[str, str]]) -> None:
    wanted = [(name.encode(), value.encode("utf-8", "backslashreplace")) for name, value in fields]
    assert parsed(entry(fields)) == wanted


def test_a_value_that_looks_like_a_field_is_a_value() -> None:
    assert parsed(entry([("OLLAMAD_MODEL", "m\nPRIORITY=0\n_UID=0")])) == [(b"OLLAMAD_MODEL", b"m\nPRIORITY=0\n_UID=0")]


def test_what_is_too_long_is_cut_and_says_so() -> None:
    ((_, value),) = parsed(entry([("MESSAGE", "x" * 100_000)]))
    assert len(value) == FIELD_MAX_BYTES
    assert value.endswith(b"x[cut]")


def test_an_entry_is_never_larger_than_one_datagram() -> None:
    datagram = entry([(f"OLLAMAD_F{number}", "x" * FIELD_MAX_BYTES) for number in range(100)] + [("LAST", "1")])
    assert len(datagram) <= ENTRY_MAX_BYTES
    assert parsed(datagram)[-1] == (b"LAST", b"1")


def test_entries_arrive_and_those_that_nobody_takes_are_lost_without_a_wait(tmp_path: Path) -> None:
    sink = ToJournal(tmp_path / "socket")
    sink.msg(b"A=1\n")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as taker:
        taker.bind(str(tmp_path / "socket"))
        for _ in range(10_000):
            sink.msg(b"A=1\n")
        assert taker.recv(100) == b"A=1\n"
    sink.msg(b"A=1\n")
    sink.close()


def test_only_the_stream_that_systemd_gave_us_is_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as there, (tmp_path / "stderr").open("wb") as stderr:
        there.bind(str(tmp_path / "socket"))
        monkeypatch.setattr(journal, "SOCKET", tmp_path / "socket")
        found = os.fstat(stderr.fileno())
        ours = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
        assert is_journal(stderr.fileno(), ours)
        assert not is_journal(stderr.fileno(), {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino + 1}"})
        assert not is_journal(stderr.fileno(), {})
        assert not is_journal(there.fileno(), ours)
        monkeypatch.setattr(journal, "SOCKET", tmp_path / "none")
        assert not is_journal(stderr.fileno(), ours)
