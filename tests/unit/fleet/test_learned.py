from __future__ import annotations

from pathlib import Path

import pytest

from ollamad.fleet.learned import keep, recall, state_file, written
from ollamad.routing.knowledge import Knowledge, What


def test_what_was_learned_is_there_again_after_a_restart(tmp_path: Path) -> None:
    before, after = Knowledge(), Knowledge()
    before.learn(What.LOAD_S, "m:latest", "a GPU", 4.0)
    before.learn(What.LOAD_S, "m:latest", "a GPU", 6.0)
    keep(tmp_path / "new" / "learned.json", written(before))
    recall(tmp_path / "new" / "learned.json", after)
    assert after.values == before.values


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b'{"version":99,"values":[]}', b'{"version":1,"values":[{"what":"x"}]}']
)
def test_a_file_that_is_damaged_or_of_another_version_is_left_out(tmp_path: Path, text: bytes) -> None:
    knowledge = Knowledge()
    (tmp_path / "learned.json").write_bytes(text)
    recall(tmp_path / "learned.json", knowledge)
    assert knowledge.values == {}


def test_no_file_and_no_place_for_one_are_no_fault(tmp_path: Path) -> None:
    recall(tmp_path / "absent", Knowledge())
    (tmp_path / "file").touch()
    keep(tmp_path / "file" / "learned.json", b"x")


@pytest.mark.parametrize(
    ("setting", "environ", "expected"),
    [
        ("auto", {"STATE_DIRECTORY": "/var/lib/ollamad"}, Path("/var/lib/ollamad/learned.json")),
        ("auto", {"STATE_DIRECTORY": "/a:/b"}, Path("/a/learned.json")),
        ("auto", {}, Path("/home/me/.local/state/ollamad/learned.json")),
        ("~/state", {"STATE_DIRECTORY": "/a"}, Path("/home/me/state/learned.json")),
        ("", {}, None),
    ],
)
def test_it_is_kept_where_it_is_said_else_where_systemd_says_else_in_the_home(
    setting: str, environ: dict[str, str], expected: Path | None
) -> None:
    assert state_file(setting, environ, "/home/me") == expected
