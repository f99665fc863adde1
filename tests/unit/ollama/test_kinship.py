"""What we adopt is reaped, and only once it is over."""

from __future__ import annotations

import platform
import subprocess
import sys

import psutil
import pytest

from ollamad.ollama.kinship import unreaped
from tests.support.daemon import until

EXIT_OF_ONE_THREAD = {"x86_64": 60, "aarch64": 93}.get(platform.machine())
FIRST_THREAD_ENDS = f"""
import ctypes, os, sys, threading
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0))).start()
ctypes.CDLL(None).syscall({EXIT_OF_ONE_THREAD}, 0)
"""


@pytest.mark.skipif(EXIT_OF_ONE_THREAD is None, reason="the number of exit(2) is not known for this machine")
async def test_one_whose_first_thread_has_ended_is_not_over_though_it_looks_like_a_zombie() -> None:
    command = [sys.executable, "-c", FIRST_THREAD_ENDS]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:  # noqa: ASYNC220 - asyncio would reap it itself
        assert process.stdin is not None
        await until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE)
        assert unreaped((process.pid,)) == (process.pid,)
        process.stdin.close()
        await until(lambda: unreaped((process.pid,)) == ())
        assert not psutil.pid_exists(process.pid)


def test_what_is_somebody_else_s_is_not_waited_for() -> None:
    assert unreaped((1,)) == ()
