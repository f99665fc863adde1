"""The control socket is one daemon's alone, and made safely."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from ollamad.control import claim
from ollamad.control.claim import Ownership, claimed, peer_of
from ollamad.errors import StartError

HOLD = """
import sys, pathlib
from ollamad.control.claim import Ownership, claimed
with claimed(pathlib.Path(sys.argv[1]), Ownership()):
    print("held", flush=True)
    sys.stdin.read()
"""


def refusal(path: Path) -> str:
    with pytest.raises(StartError) as caught, claimed(path, Ownership()):
        pass
    return str(caught.value)


def holder(path: Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    return process


def connects(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except OSError:
            return False
        return True


def stale(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(path))


def test_it_listens_while_it_is_held_and_is_gone_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "control.sock"
    with claimed(path, Ownership()):
        assert connects(path)
    assert not path.exists()
    with claimed(path, Ownership()):  # and may be had again
        assert connects(path)


@pytest.mark.parametrize("mode", [0o600, 0o660])
@pytest.mark.parametrize("umask", [0, 0o777])
def test_its_mode_is_what_was_asked_whatever_the_umask(tmp_path: Path, mode: int, umask: int) -> None:
    before = os.umask(umask)
    try:
        with claimed(tmp_path / "s", Ownership(mode=mode)):
            assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == mode
    finally:
        os.umask(before)


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    stale(path)
    with claimed(path, Ownership()):
        assert connects(path)


def test_a_second_daemon_is_refused_and_told_the_firsts_pid(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    first = holder(path)
    try:
        said = refusal(path)
        assert f"another ollamad (pid {first.pid}) has the control socket {path}" in said
        assert "--set control.socket=PATH" in said
        assert connects(path)
    finally:
        first.kill()
        first.communicate()
    with claimed(path, Ownership()):  # killed, it holds nothing any more
        assert connects(path)


def test_a_socket_that_another_program_listens_on_is_left_to_it_and_told(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        assert f"another process (pid {os.getpid()}) listens on {path}" in refusal(path)
        assert connects(path)


def test_a_file_in_its_place_is_not_deleted(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    path.write_text("precious")
    assert "is there and is no socket" in refusal(path)
    assert path.read_text() == "precious"


def test_what_somebody_put_in_its_place_meanwhile_is_not_deleted(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with claimed(path, Ownership()):
        path.unlink()
        path.write_text("another's")
    assert path.read_text() == "another's"


def test_a_folder_that_everybody_may_write_to_is_refused_unless_it_is_sticky(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    assert "can be written by everybody, who could swap the socket" in refusal(folder / "control.sock")
    folder.chmod(0o1777)
    with claimed(folder / "control.sock", Ownership()):
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to somebody else")
def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    os.chown(folder, 65_534, -1)
    assert "belongs to another user (uid 65534)" in refusal(folder / "control.sock")


def test_a_folder_in_tmp_that_is_not_ours_alone_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim, "shared_folder", lambda _uid: tmp_path / "shared")
    with claimed(tmp_path / "shared" / "control.sock", Ownership()):
        assert stat.S_IMODE((tmp_path / "shared").stat().st_mode) == 0o700
    (tmp_path / "shared").chmod(0o755)
    assert "is open to others (mode 0755)" in refusal(tmp_path / "shared" / "control.sock")


def test_a_folder_that_cannot_be_made_is_told_with_a_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = refusal(tmp_path / "file" / "deeper" / "control.sock")
    assert "can't be made" in said
    assert "--set control.socket=PATH" in said


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "control.sock.lock").symlink_to(tmp_path / "elsewhere")
    assert "control.sock.lock can't be opened" in refusal(tmp_path / "control.sock")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a socket to somebody else")
def test_it_is_given_to_the_owner_and_the_group_that_were_asked(tmp_path: Path) -> None:
    with claimed(tmp_path / "s", Ownership(owner=65_534, group=4_242)):
        found = (tmp_path / "s").stat()
        assert (found.st_uid, found.st_gid) == (65_534, 4_242)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may give a socket to anybody")
def test_an_owner_that_we_may_not_give_it_to_is_told(tmp_path: Path) -> None:
    assert "can't be made" in refusal_with(tmp_path / "s", Ownership(owner=0))


def refusal_with(path: Path, ownership: Ownership) -> str:
    with pytest.raises(StartError) as caught, claimed(path, ownership):
        pass
    return str(caught.value)


def test_the_kernel_says_who_is_on_the_other_side() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        peer = peer_of(ours)
    assert (peer.pid, peer.uid, peer.gid) == (os.getpid(), os.getuid(), os.getgid())
