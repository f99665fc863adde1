"""Where the control socket is, when nobody says: one rule, for the daemon that makes it and for who looks for it.

Kept to the standard library: `ollamactl` imports it, and should start at once.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

VARIABLE: Final = "OLLAMAD_SOCKET"
SYSTEM: Final = Path("/run/ollamad/control.sock")
SOCKET: Final = "control.sock"
ROOT: Final = 0


def place(environ: Mapping[str, str], uid: int) -> Path:
    """Where a daemon of this user makes its socket."""
    if named := environ.get(VARIABLE):
        return Path(named)
    if uid == ROOT or os.access(SYSTEM.parent, os.W_OK | os.X_OK):
        return SYSTEM
    return _own(environ, uid)[0]


def places(environ: Mapping[str, str], uid: int) -> tuple[Path, ...]:
    """Where to look for a daemon's socket, the likeliest first."""
    if named := environ.get(VARIABLE):
        return (Path(named),)
    return (SYSTEM, *_own(environ, uid))


def _own(environ: Mapping[str, str], uid: int) -> tuple[Path, ...]:
    """A user's own places. Only `/tmp` is left where there is no login session, as under cron or su."""
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    session = (Path(runtime) / "ollamad" / SOCKET,) if runtime.startswith("/") else ()
    return (*session, shared_folder(uid) / SOCKET)


def shared_folder(uid: int) -> Path:
    """A user's folder in `/tmp`, where others could have made it first: see `why_not_ours`."""
    return Path("/tmp") / f"ollamad-{uid}"  # noqa: S108 - checked before use, by both sides


def why_not_ours(folder: Path, uid: int) -> str | None:
    """Why this folder in a place that all can write to is not to be trusted; None where it is this user's alone."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        return "is not a directory"
    if found.st_uid != uid:
        return f"belongs to another user (uid {found.st_uid})"
    if stat.S_IMODE(found.st_mode) & 0o077:
        return f"is open to others (mode {stat.S_IMODE(found.st_mode):04o})"
    return None
