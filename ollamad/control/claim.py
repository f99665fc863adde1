"""The control socket is one daemon's alone: claimed with a lock, made safely, given back at the end.

The lock file beside the socket is held by flock(2), which the kernel gives back however its holder ends: so a socket
whose lock is free is stale, and is replaced. The file is never deleted; that would let two hold "the" lock.
"""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ollamad.config.checks import nearest_there
from ollamad.control.place import ROOT, shared_folder, why_not_ours
from ollamad.errors import StartError

BACKLOG: Final = 64
CONNECT_TIMEOUT_S: Final = 1.0
UNCHANGED: Final = -1
"""For chown(2): leave it as it is."""

_CREDENTIALS: Final = struct.Struct("3i")
WAY_OUT: Final = "stop that one first, or choose another socket with --set control.socket=PATH"


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is on the other side of a unix socket, as the kernel says."""

    pid: int
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Ownership:
    """How the socket is to be made."""

    owner: int = UNCHANGED
    group: int = UNCHANGED
    mode: int = 0o660


@contextmanager
def claimed_with(listener: socket.socket) -> Iterator[Path]:
    """A listening control socket that systemd made and goes on holding: ours alone while the block lasts.

    Its owner and mode are the socket unit's affair. Raises StartError where another daemon has it.
    """
    path = Path(os.fsdecode(listener.getsockname()))
    with _lock(path), listener:
        yield path


@contextmanager
def claimed(path: Path, ownership: Ownership) -> Iterator[socket.socket]:
    """The listening control socket, for as long as the block lasts; connections wait until somebody serves it.

    Raises StartError where another daemon has it, or it can't be made safely.
    """
    _make_folder(path.parent)
    with _lock(path), _listening(path, ownership) as listener:
        yield listener


def peer_of(connected: socket.socket) -> Peer:
    """Who connected, or made the socket that we connected to (SO_PEERCRED)."""
    found = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return Peer(*_CREDENTIALS.unpack(found))


def why_unusable(path: Path) -> str | None:
    """Why no control socket could be made here by this user; None where it could, or a daemon has made one already.

    Makes nothing to find out.
    """
    uid, folder = os.geteuid(), path.parent
    at = nearest_there(folder)
    try:
        why = _why_not_safe(folder, uid) if at == folder else None
    except OSError as error:
        why = f"can't be used: {error.strerror}"
    if why:
        return f"its folder {folder} {why}"
    if not os.access(at, os.W_OK | os.X_OK):
        return f"{at} can't be written by this user (uid {uid}): name another place"
    if path.exists() and not path.is_socket():
        return "is there and is no socket: remove it, or name another place"
    return None


def _make_folder(folder: Path) -> None:
    """Make the socket's folder, or see that the one that is there is safe: nobody else may swap what is in it."""
    uid = os.geteuid()
    try:
        folder.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700 if folder == shared_folder(uid) else 0o755)
        why = _why_not_safe(folder, uid)
    except OSError as error:
        raise StartError(
            f"the control socket's folder {folder} can't be made: {error.strerror};"
            " choose another place with --set control.socket=PATH"
        ) from error
    if why:
        raise StartError(f"the control socket's folder {folder} {why}; mend that, or --set control.socket=PATH")


def _why_not_safe(folder: Path, uid: int) -> str | None:
    if folder == shared_folder(uid):
        return why_not_ours(folder, uid)
    found = folder.stat()
    if not stat.S_ISDIR(found.st_mode):
        return "is not a directory"
    if found.st_uid not in {uid, ROOT}:
        return f"belongs to another user (uid {found.st_uid}), who could swap the socket"
    if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
        return "can be written by everybody, who could swap the socket"
    return None


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    lock = path.with_name(f"{path.name}.lock")
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StartError(f"the control socket's lock {lock} can't be opened: {error.strerror}; {WAY_OUT}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip() or "unknown"
            raise StartError(f"another ollamad (pid {holder}) has the control socket {path}; {WAY_OUT}") from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _listening(path: Path, ownership: Ownership) -> Iterator[socket.socket]:
    _clear(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        try:
            # Bound but not listening, it refuses everybody: its mode is right before the first can connect.
            listener.bind(str(path))
            path.chmod(ownership.mode)
            if (ownership.owner, ownership.group) != (UNCHANGED, UNCHANGED):  # a sandbox may forbid the call as such
                os.chown(path, ownership.owner, ownership.group, follow_symlinks=False)
        except OSError as error:
            raise StartError(f"the control socket {path} can't be made: {error.strerror or error}") from error
        made = path.lstat()
        try:
            listener.listen(BACKLOG)
            yield listener
        finally:
            _remove(path, made)


def _clear(path: Path) -> None:
    """Remove a stale socket. Raises StartError where it is none."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise StartError(f"{path} is there and is no socket; remove it, or --set control.socket=PATH")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(CONNECT_TIMEOUT_S)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except OSError as error:
            raise StartError(f"who has the control socket {path} can't be told: {error}; {WAY_OUT}") from error
        raise StartError(f"another process (pid {peer_of(probe).pid}) listens on {path}; {WAY_OUT}")


def _remove(path: Path, made: os.stat_result) -> None:
    """Remove our socket, and nothing that somebody has put in its place."""
    with suppress(OSError):
        if os.path.samestat(path.lstat(), made):
            path.unlink()
