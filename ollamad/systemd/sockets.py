"""Listening sockets that systemd hands over (sd_listen_fds(3)): while we restart, who connects waits in them.

A socket unit names its sockets by FileDescriptorName=. One unit may hold several of ours, and has one name for them:
then a unix socket is the control socket, and any other the proxy's.
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Final

from ollamad.errors import StartError

FIRST: Final = 3
NAMES: Final = ("proxy", "status", "control")
_INTERNET: Final = frozenset({socket.AF_INET, socket.AF_INET6})


@dataclass(frozen=True, slots=True)
class Inherited:
    """What was handed over: each list may be empty, and then we listen for ourselves."""

    proxy: tuple[socket.socket, ...] = ()
    status: tuple[socket.socket, ...] = ()
    control: tuple[socket.socket, ...] = ()

    def close(self) -> None:
        """Let go of what nobody has taken into use. systemd has its own, where connections go on waiting."""
        for one in (*self.proxy, *self.status, *self.control):
            one.close()


def take_sockets(environ: MutableMapping[str, str]) -> Inherited:
    """The sockets that the environment tells of; its variables are taken out.

    Raises StartError for one that can't be what it is named for: connections to it would hang for ever.
    """
    pid, count, names = (environ.pop(f"LISTEN_{name}", "") for name in ("PID", "FDS", "FDNAMES"))
    if pid != str(os.getpid()) or not (count.isascii() and count.isdigit()):
        return Inherited()
    named = dict(enumerate(names.split(":"), FIRST))
    found: dict[str, list[socket.socket]] = {name: [] for name in NAMES}
    for descriptor in range(FIRST, FIRST + int(count)):
        one = _opened(descriptor, named.get(descriptor, ""))
        found[_purpose(one, named.get(descriptor, ""))].append(one)
    if len(found["control"]) > 1:
        raise StartError("systemd hands over two control sockets; leave one ListenStream=/… in ollamad.socket")
    return Inherited(**{name: tuple(sockets) for name, sockets in found.items()})


def _opened(descriptor: int, name: str) -> socket.socket:
    os.set_inheritable(descriptor, False)  # noqa: FBT003 - its only argument, and positional
    try:
        one = socket.socket(fileno=descriptor)
        listens = one.type == socket.SOCK_STREAM and one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise StartError(f"file descriptor {descriptor} ({name}) of systemd is no socket: {error.strerror}") from error
    if not listens:
        raise StartError(
            f"socket {name or descriptor} of systemd does not listen; it needs ListenStream=, and no Accept=yes"
        )
    one.settimeout(0.0)
    return one


def _purpose(one: socket.socket, name: str) -> str:
    """Which of our listeners this is, by its name, else by its family."""
    is_unix = one.family == socket.AF_UNIX
    purpose = name if name in NAMES else "control" if is_unix else "proxy"
    if is_unix is not (purpose == "control") or (not is_unix and one.family not in _INTERNET):
        wanted = "a path" if purpose == "control" else "an address and a port"
        raise StartError(f"socket {name!r} of systemd is the {purpose} socket: its ListenStream= must be {wanted}")
    return purpose
