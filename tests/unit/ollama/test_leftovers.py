from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ollamad.ollama.leftovers import Leftover, end_leftovers, leftovers, own_mark


@contextmanager
def process_marked(mark: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "600"], env={"OLLAMAD_INSTANCE": mark, "OLLAMAD_CHILD": "gpu7"})
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _mark(*, namespace: str | None = None, pid: str | None = None, started: str | None = None) -> str:
    own = own_mark().split("-")
    return "-".join([namespace or own[0], pid or own[1], started or own[2], own[3]])


def _found(process: subprocess.Popen[bytes]) -> bool:
    return Leftover(process.pid, "gpu7") in leftovers()


def test_marks_of_one_process_differ_only_at_the_end() -> None:
    first, second = own_mark().split("-"), own_mark().split("-")
    assert first[:3] == second[:3]
    assert first[1] == str(os.getpid())
    assert first[3] != second[3]


def test_a_process_whose_ollamad_lives_is_no_leftover() -> None:
    with process_marked(_mark()) as process:
        assert not _found(process)


@pytest.mark.parametrize("mark", ["", "nonsense", "1-2-3", "1-2-3-", "-1-2-ff", "a-b-c-d"])
def test_a_mark_that_cannot_be_read_proves_nothing(mark: str) -> None:
    with process_marked(mark) as process:
        assert not _found(process)


def test_a_mark_of_another_pid_namespace_is_left_alone() -> None:
    with process_marked(_mark(namespace="1", started="1")) as process:
        assert not _found(process)


def test_a_number_that_was_given_to_another_process_since_does_not_protect_a_leftover() -> None:
    with process_marked(_mark(started="1")) as process:
        assert _found(process)


def test_a_zombie_that_nobody_reaps_does_not_protect_a_leftover() -> None:
    ollamad = subprocess.Popen(["true"])
    os.waitid(os.P_PID, ollamad.pid, os.WEXITED | os.WNOWAIT)
    with Path(f"/proc/{ollamad.pid}/stat").open() as stat:
        started = stat.read().rpartition(")")[2].split()[19]
    with process_marked(_mark(pid=str(ollamad.pid), started=started)) as process:
        assert _found(process)
    ollamad.wait()


async def test_leftovers_are_ended_and_named() -> None:
    with process_marked(_mark(pid="4194304")) as process:
        ended = await end_leftovers(patience_s=20.0)
        assert Leftover(process.pid, "gpu7") in ended
        assert process.wait() == -9
