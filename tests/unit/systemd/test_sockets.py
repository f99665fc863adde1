"""What is handed over is numbered from 3 in a process of its own: systemd-socket-activate makes one as systemd does."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from ollamad.systemd.sockets import take_sockets
from tests.support.real_ollama import free_port

ANOTHER: Final = str(os.getppid())
TELL: Final = """
import json, os, sys
from ollamad.errors import StartError
from ollamad.systemd.sockets import take_sockets
try:
    found = take_sockets(os.environ)
except StartError as error:
    print(json.dumps({"error": str(error)}))
    sys.exit()
told = {name: [one.getsockname() for one in getattr(found, name)] for name in ("proxy", "status", "control")}
told["inheritable"] = [one.get_inheritable() for one in (*found.proxy, *found.status, *found.control)]
told["left"] = [name for name in os.environ if name.startswith("LISTEN_")]
found.close()
print(json.dumps(told))
"""


def told(*options: str, knock: tuple[str, int] | str) -> dict[str, Any]:
    """What a process says of the sockets that it was given; it is started by whoever knocks first."""
    activate = shutil.which("systemd-socket-activate")
    if activate is None:
        pytest.skip("there is no systemd-socket-activate here: apt-get install systemd")
    command = [activate, *options, sys.executable, "-c", TELL]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while "Listening on" not in (line := process.stderr.readline()):
            assert line, "it listens nowhere"
        with socket.socket(socket.AF_UNIX if isinstance(knock, str) else socket.AF_INET) as knocker:
            while knocker.connect_ex(knock) != 0:
                assert process.poll() is None
            out, _ = process.communicate(timeout=30)
    found: dict[str, Any] = json.loads(out)
    return found


def test_sockets_are_known_by_name_and_are_ours_alone() -> None:
    proxy, status = free_port(), free_port()
    names = ("-l", f"127.0.0.1:{proxy}", "-l", f"127.0.0.1:{status}", "--fdname=proxy:status")
    found = told(*names, knock=("127.0.0.1", proxy))
    assert found["proxy"] == [["127.0.0.1", proxy]]
    assert found["status"] == [["127.0.0.1", status]]
    assert found["inheritable"] == [False, False]
    assert found["left"] == []


def test_sockets_of_one_unit_are_told_apart_by_what_they_are(tmp_path: Path) -> None:
    port, path = free_port(), str(tmp_path / "control.sock")
    options = ("-l", f"127.0.0.1:{port}", "-l", path, "--fdname=ollamad.socket:ollamad.socket")
    found = told(*options, knock=("127.0.0.1", port))
    assert found["proxy"] == [["127.0.0.1", port]]
    assert found["control"] == [path]


def test_a_socket_that_can_t_be_what_it_is_named_for_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "proxy.sock")
    found = told("-l", path, "--fdname=proxy", knock=path)
    assert (
        found["error"]
        == "socket 'proxy' of systemd is the proxy socket: its ListenStream= must be an address and a port"
    )


def test_two_control_sockets_are_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "a")
    found = told("-l", path, "-l", str(tmp_path / "b"), knock=path)
    assert "two control sockets" in found["error"]


@pytest.mark.parametrize("pid", ["", ANOTHER, "no"])
def test_what_is_for_another_process_is_not_ours(pid: str) -> None:
    environ = {"LISTEN_PID": pid, "LISTEN_FDS": "2", "LISTEN_FDNAMES": "proxy:control", "PATH": "/bin"}
    found = take_sockets(environ)
    assert (found.proxy, found.control) == ((), ())
    assert environ == {"PATH": "/bin"}


def test_nonsense_for_a_count_is_nothing() -> None:
    found = take_sockets({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "-1"})
    assert found.proxy == ()
