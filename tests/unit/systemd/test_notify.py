from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from ollamad.systemd.notify import take_notifier
from tests.support.own_number import own_number

ANOTHER = str(os.getppid())


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.bind(str(tmp_path / "notify"))
        bound.settimeout(0.0)
        yield bound


def test_each_fact_is_a_line_of_one_datagram(manager: socket.socket) -> None:
    notifier = take_notifier({"NOTIFY_SOCKET": manager.getsockname()})
    notifier.send({"READY": "1", "STATUS": "3 of 4 children ready"})
    assert manager.recv(4096) == b"READY=1\nSTATUS=3 of 4 children ready\n"
    notifier.close()


def test_no_value_can_begin_another_fact(manager: socket.socket) -> None:
    notifier = take_notifier({"NOTIFY_SOCKET": manager.getsockname()})
    notifier.send({"STATUS": "a\nMAINPID=1"})
    assert manager.recv(4096) == b"STATUS=a MAINPID=1\n"
    notifier.close()


def test_a_name_that_is_no_file_is_understood() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.bind(f"\0ollamad-test-{own_number()}")
        notifier = take_notifier({"NOTIFY_SOCKET": f"@ollamad-test-{own_number()}"})
        notifier.send({"READY": "1"})
        assert bound.recv(4096) == b"READY=1\n"
        notifier.close()


@pytest.mark.parametrize("address", ["", "relative", "/nowhere/notify"])
def test_nobody_to_tell_is_no_failure(address: str) -> None:
    notifier = take_notifier({"NOTIFY_SOCKET": address})
    notifier.send({"READY": "1"})
    notifier.close()
    notifier.send({"READY": "1"})


def test_a_manager_that_reads_nothing_is_not_waited_for(manager: socket.socket) -> None:
    notifier = take_notifier({"NOTIFY_SOCKET": manager.getsockname()})
    for _ in range(10_000):
        notifier.send({"STATUS": "x" * 1000})
    notifier.close()


def test_what_is_for_us_is_taken_out_of_the_environment(manager: socket.socket) -> None:
    environ = {
        "NOTIFY_SOCKET": manager.getsockname(),
        "WATCHDOG_USEC": "30000000",
        "WATCHDOG_PID": str(os.getpid()),
        "PATH": "/bin",
    }
    notifier = take_notifier(environ)
    assert notifier.watchdog_s == 30.0
    assert environ == {"PATH": "/bin"}
    notifier.close()


@pytest.mark.parametrize(("usec", "pid"), [("", ""), ("0", ""), ("no", ""), ("30000000", ANOTHER)])
def test_a_watchdog_that_is_none_or_another_s_is_not_fed(manager: socket.socket, usec: str, pid: str) -> None:
    environ = {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": usec, "WATCHDOG_PID": pid}
    notifier = take_notifier(environ)
    assert notifier.watchdog_s is None
    notifier.close()
