"""What a service tells systemd: datagrams of `KEY=value` lines to $NOTIFY_SOCKET, as sd_notify(3) describes them.

A dozen lines of protocol: python-systemd needs libsystemd and a compiler, and the small packages on PyPI have been left
alone for years and know neither EXTEND_TIMEOUT_USEC nor MONOTONIC_USEC. Without the variable nobody is told anything.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from typing import Final, Protocol

ADDRESS: Final = "NOTIFY_SOCKET"
WATCHDOG_USEC: Final = "WATCHDOG_USEC"
WATCHDOG_PID: Final = "WATCHDOG_PID"
USEC: Final = 1_000_000


class Manager(Protocol):
    """Whoever runs us as a service."""

    @property
    def watchdog_s(self) -> float | None:
        """We are ended when nothing is heard of us for so long; None where nobody minds."""

    def send(self, state: Mapping[str, str]) -> None:
        """Tell it; never waits, and never fails."""


class Notifier:
    """The service manager that started this process, if one did."""

    def __init__(self, address: str | None = None, watchdog_s: float | None = None) -> None:
        self._address = _address(address) if address else None
        self._watchdog_s = watchdog_s
        self._socket: socket.socket | None = None
        if self._address is not None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.settimeout(0.0)

    @property
    def watchdog_s(self) -> float | None:
        """We are ended when nothing is heard of us for so long; None where nobody minds."""
        return self._watchdog_s

    def send(self, state: Mapping[str, str]) -> None:
        """Tell it; never waits, and never fails: a service that loses this is still a service."""
        if self._socket is not None and self._address is not None:
            message = "".join(f"{key}={_one_line(value)}\n" for key, value in state.items())
            with suppress(OSError):
                self._socket.sendto(message.encode(errors="replace"), self._address)

    def close(self) -> None:
        """Tell it nothing more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def take_notifier(environ: MutableMapping[str, str]) -> Notifier:
    """The manager that the environment names; its variables are taken out, so that no child speaks for us."""
    address = environ.pop(ADDRESS, None)
    usec, pid = environ.pop(WATCHDOG_USEC, ""), environ.pop(WATCHDOG_PID, "")
    minded = usec.isascii() and usec.isdigit() and int(usec) > 0 and pid in {"", str(os.getpid())}
    return Notifier(address, int(usec) / USEC if address and minded else None)


def _address(text: str) -> str | None:
    """A path, or `@` and an abstract name; None for what is neither."""
    if text.startswith("@"):
        return "\0" + text[1:]
    return text if text.startswith("/") else None


def _one_line(value: str) -> str:
    return value.replace("\n", " ")
