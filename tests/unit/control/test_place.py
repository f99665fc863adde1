"""Where the control socket is, when nobody says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ollamad.control import place as rule
from ollamad.control.place import SYSTEM, place, places, shared_folder, why_not_ours

USER = 4242


@pytest.fixture
def nobody_may_write(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(rule, "SYSTEM", tmp_path / "none" / "control.sock")


def test_root_uses_the_systems_place() -> None:
    assert place({"XDG_RUNTIME_DIR": "/run/user/0"}, 0) == SYSTEM


def test_who_may_write_to_the_systems_place_uses_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(rule, "SYSTEM", tmp_path / "control.sock")
    assert place({}, USER) == tmp_path / "control.sock"


@pytest.mark.usefixtures("nobody_may_write")
def test_others_use_their_session_or_else_a_folder_of_their_own() -> None:
    assert place({"XDG_RUNTIME_DIR": "/run/user/4242"}, USER) == Path("/run/user/4242/ollamad/control.sock")
    for odd in ({}, {"XDG_RUNTIME_DIR": ""}, {"XDG_RUNTIME_DIR": "relative"}):
        assert str(place(odd, USER)) == "/tmp/ollamad-4242/control.sock"  # noqa: S108


def test_a_variable_goes_before_every_rule() -> None:
    assert place({"OLLAMAD_SOCKET": "/a"}, 0) == Path("/a")
    assert places({"OLLAMAD_SOCKET": "/a", "XDG_RUNTIME_DIR": "/b"}, USER) == (Path("/a"),)


@pytest.mark.parametrize("environ", [{}, {"XDG_RUNTIME_DIR": "/run/user/4242"}, {"OLLAMAD_SOCKET": "/a"}])
@pytest.mark.parametrize("uid", [0, USER])
def test_who_looks_looks_wherever_a_daemon_of_the_same_user_would_be(environ: dict[str, str], uid: int) -> None:
    assert place(environ, uid) in places(environ, uid)


def test_a_folder_in_tmp_is_trusted_only_where_it_is_ours_alone(tmp_path: Path) -> None:
    me = os.geteuid()
    folder = tmp_path / "ollamad"
    folder.mkdir(mode=0o700)
    assert why_not_ours(folder, me) is None
    assert why_not_ours(folder, me + 1) == f"belongs to another user (uid {me})"
    folder.chmod(0o770)
    assert why_not_ours(folder, me) == "is open to others (mode 0770)"
    link = tmp_path / "link"
    link.symlink_to(folder)
    assert why_not_ours(link, me) == "is not a directory"


def test_the_folder_in_tmp_names_its_user() -> None:
    assert str(shared_folder(7)) == "/tmp/ollamad-7"  # noqa: S108
