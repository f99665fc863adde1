"""What ties our processes to us, beyond what they could undo: the kernel's parent-death signal, and adoption.

A server gets SIGKILL the moment ollamad dies; its runners do not, as the signal is not inherited. Those of a server
that was killed alone are adopted by ollamad, the nearest subreaper, which reaps them. What is left, runners of a killed
ollamad, is the warden's (`warden.py`) and the next start's (`leftovers.py`).
"""

from __future__ import annotations

import ctypes
import os
import shutil
from typing import Final

_PR_SET_CHILD_SUBREAPER: Final = 36


def adopt_orphans() -> None:
    """From now on a descendant whose parent dies becomes our child. Raises OSError where the kernel refuses."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def dies_with_us() -> tuple[str, ...]:
    """What to put before a command so that the kernel kills it when we die; empty where there is no setpriv(1).

    The program sets its own signal and then becomes the command, so the process keeps its number; a function run
    between fork and exec could deadlock on a lock of the thread that talks to the driver.
    """
    setpriv = shutil.which("setpriv", path=f"{os.environ.get('PATH', '')}:/usr/bin")
    return (setpriv, "--pdeathsig", "KILL", "--") if setpriv else ()


def unreaped(pids: tuple[int, ...]) -> tuple[int, ...]:
    """Take the exit status of adopted zombies, so that none stays; gives those that have not ended yet.

    A process of which only the first thread has ended looks like a zombie, too: the others still hold what they hold.
    """
    return tuple(pid for pid in pids if not _reaped(pid))


def _reaped(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:  # it is, or was, somebody else's to reap
        return True
