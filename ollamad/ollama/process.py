"""One `ollama serve` as a process: started in a session of its own, drained, and ended with all that it started.

Ollama starts its runners in its own process group and without a parent-death signal (0.33, llm_linux.go), so killing
the server leaves them behind with their VRAM. Everything here is therefore done to the group.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import psutil

from ollamad.config.secrets import hidden_in, secrets_in
from ollamad.ollama.kinship import unreaped
from ollamad.ollama.output import LineSplitter

READ_BYTES: Final = 65_536
SWEEP_PAUSE_S: Final = 0.01
ABANDON_S: Final = 1.0


class ServeProcess:
    """A running server. Whoever starts one must `sweep` it, or its zombie stays."""

    def __init__(self, command: Sequence[str | Path], environment: Mapping[str, str]) -> None:
        """Start it now. Raises OSError where it can't be.

        The start blocks for the time of a fork, a few milliseconds: asyncio's own subprocesses would reap the server
        before its group is dealt with.
        """
        self._secrets = secrets_in(environment)
        read_end, write_end = os.pipe()
        self._output = os.fdopen(read_end, "rb", buffering=0)
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the operator's own program, no shell
                command,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=write_end,
                stderr=write_end,
                start_new_session=True,
                cwd="/",
            )
        except OSError:
            self._output.close()
            raise
        finally:
            os.close(write_end)
        self.pid = self._process.pid

    async def exited(self) -> None:
        """Wait until the server itself has exited. It stays a zombie until `sweep`."""
        loop = asyncio.get_running_loop()
        done = asyncio.Event()
        pidfd = os.pidfd_open(self.pid)
        loop.add_reader(pidfd, done.set)
        try:
            await done.wait()
        finally:
            loop.remove_reader(pidfd)
            os.close(pidfd)

    async def drain(self, tell: Callable[[str], None]) -> None:
        """Read its output line by line until all that hold the pipe have closed it; a full one wedges the child.

        Ollama prints its environment when it starts: what is secret in it is hidden.
        """
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=READ_BYTES)
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), self._output)
        splitter = LineSplitter()
        try:
            while data := await reader.read(READ_BYTES):
                for line in splitter.feed(data):
                    tell(hidden_in(line, self._secrets))
            for line in splitter.end():
                tell(hidden_in(line, self._secrets))
        finally:
            transport.close()

    def listens_on(self, port: int) -> bool:
        """Whether this port is ours: a stranger who took it first would answer our probes, and get our requests."""
        return any(_listens(pid, port) for pid in self.members())

    def terminate(self) -> None:
        """Ask the server to stop; it ends its runners itself (0.33, server/routes.go:2022).

        Not by `Popen.send_signal`, which reaps one that is dead already: nobody could find its group any more.
        """
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):  # where SIGCHLD is ignored, the kernel reaps it
                os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """End the whole group now."""
        self._kill_group()

    async def sweep(self, patience_s: float, late: Callable[[tuple[int, ...]], None]) -> None:
        """End what is left of the group, return when it is gone, and reap it. Call it after `exited`.

        Until here the server is a zombie, so its number, which is also its group's, can't have been given to a
        stranger. `late` is told, once, the pids that outlive SIGKILL for `patience_s`: processes in an uninterruptible
        call, usually into a driver. They still hold what they held, so there is no going on without them.
        """
        deadline_s, told = time.monotonic() + patience_s, False
        while left := self.members() or unreaped(self._zombies()):
            self._kill_group()
            if not told and time.monotonic() >= deadline_s:
                told = True
                late(left)
            await asyncio.sleep(SWEEP_PAUSE_S)
        self._process.wait()

    def abandon(self) -> None:
        """Leave nothing behind when the one who watched it is cut short; after `sweep` it does nothing."""
        if self._process.returncode is None:
            self._kill_group()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(ABANDON_S)

    def reason(self) -> str:
        """How it ended, for people. Call it after `sweep`."""
        code = self._process.returncode
        if code is None or code >= 0:
            return f"exited with status {code}"
        named = -code in signal.Signals.__members__.values()
        return f"killed by {signal.Signals(-code).name if named else f'signal {-code}'}"

    def failed(self) -> bool:
        """Whether it ended by itself, and not well. Call it after `sweep`."""
        return (self._process.returncode or 0) > 0

    def _kill_group(self) -> None:
        if self._process.returncode is not None:
            return  # reaped: its number may be a stranger's by now
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    def members(self) -> tuple[int, ...]:
        """The live members of the group, the server among them; zombies hold nothing."""
        return tuple(pid for pid, status in self._group() if status != psutil.STATUS_ZOMBIE)

    def _zombies(self) -> tuple[int, ...]:
        """Runners that we adopted and that wait for their exit status to be taken."""
        return tuple(pid for pid, status in self._group() if status == psutil.STATUS_ZOMBIE and pid != self.pid)

    def _group(self) -> Iterator[tuple[int, str]]:
        if self._process.returncode is not None:
            return  # reaped: its number may be a stranger's by now
        for pid in psutil.pids():
            try:
                if os.getpgid(pid) == self.pid:
                    yield pid, psutil.Process(pid).status()
            except (ProcessLookupError, psutil.NoSuchProcess):
                continue


def _listens(pid: int, port: int) -> bool:
    try:
        sockets = psutil.Process(pid).net_connections("tcp")
    except psutil.AccessDenied:
        return True  # nobody can tell here; a child that is never ready would be worse than one that is not proven
    except psutil.NoSuchProcess:
        return False
    return any(found.status == psutil.CONN_LISTEN and found.laddr.port == port for found in sockets)
