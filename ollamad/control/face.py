"""The control face as the daemon holds it: its socket is claimed first of all, and served once there is a fleet."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ollamad.access.keyring import Keyring
from ollamad.config.checks import AUTO, expand
from ollamad.config.schema import Control
from ollamad.control.access import access_of, ownership_of
from ollamad.control.app import ControlSite, control_runner
from ollamad.control.claim import claimed, claimed_with
from ollamad.control.handlers import Handlers
from ollamad.control.operations import Demo, Operations, Services
from ollamad.control.place import place
from ollamad.control.running import Running


@dataclass(frozen=True, slots=True)
class Claim:
    """A control socket that is ours; connections wait until it is served."""

    path: Path
    listener: socket.socket


@contextmanager
def claim(settings: Control, inherited: tuple[socket.socket, ...] = ()) -> Iterator[Claim]:
    """The socket, for as long as the block lasts; one that systemd hands over goes before a path that is set.

    Raises StartError where another ollamad has it.
    """
    for listener in inherited:
        with claimed_with(listener) as path:
            yield Claim(path, listener)
        return
    path = socket_of(settings)
    with claimed(path, ownership_of(settings)) as listener:
        yield Claim(path, listener)


def socket_of(settings: Control) -> Path:
    """Where a daemon of this user with this configuration has its socket."""
    auto = settings.socket == AUTO
    return place(os.environ, os.geteuid()) if auto else expand(settings.socket, str(Path.home()))


@dataclass(slots=True)
class About:
    """What is true of the daemon as a process."""

    socket: Path
    proxy: str | None = None
    """Where clients send requests; None before it listens."""
    status: str | None = None
    tls: bool = False
    """Whether it is https that clients speak there."""
    since_s: float = field(default_factory=time.monotonic)

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "pid": os.getpid(),
            "uptime_s": round(time.monotonic() - self.since_s, 3),
            "proxy": self.proxy,
            "status": self.status,
            "tls": self.tls,
            "socket": str(self.socket),
        }


class ControlFace:
    """One daemon's control face: `open` it, `run` it, `close` it."""

    def __init__(
        self,
        ours: Claim,
        settings: Control,
        operations: Operations,
        status: Callable[[], Mapping[str, Any]],
        keyring: Keyring,
        demo: Demo | None = None,
    ) -> None:
        self.about = About(ours.path)
        self._ours = ours
        self._operations = operations
        self._running = Running(operations_kept=settings.operations_kept, progress_kept=settings.progress_kept)
        services = Services(operations, status, self.about.document, keyring, demo)
        handlers = Handlers(services, self._running)
        self._runner = control_runner(handlers, access_of(settings))

    async def open(self) -> None:
        """Answer those who have connected, and who will."""
        await self._runner.setup()
        await ControlSite(self._runner, self._ours.listener).start()

    async def run(self) -> None:
        """Own the operations that take long, until cancelled."""
        await self._running.run()

    async def reload(self) -> None:
        """Read the configuration again, as an operation of our own user's, to its end. Raises OperationFailed."""
        operation = self._running.start("reload", self._operations.reload, os.geteuid())
        async for _ in operation.steps.read():
            continue

    async def close(self) -> None:
        """Answer nobody any more."""
        await self._runner.cleanup()
