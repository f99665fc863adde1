"""What an installer must know of the machine, and do to it beside writing files: systemctl and its sisters."""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Final

import psutil

import ollamad
from ollamad.config.checks import HOMES, OWNED_VARIABLES
from ollamad.errors import StartError
from ollamad.systemd.files import PROGRAMS, Stock

RUNNING: Final = Path("/run/systemd/system")
"""Is there where systemd is what runs the machine; sd_booted(3)."""
OURS: Final = "ollamad.service"
STOCK: Final = "ollama.service"
TIMEOUT_S: Final = 180.0
"""For one command: a start takes as long as the unit allows."""
HIDDEN: Final = (*HOMES, "/tmp", "/var/tmp")  # noqa: S108 - named because they can't be used
"""What the unit's sandbox hides."""

_EVERYONES: Final = frozenset({"PATH", "HOME"})
_OURS: Final = {
    **OWNED_VARIABLES,
    "OLLAMA_HOST": "proxy.listen, and ollamad.socket",
    **dict.fromkeys(("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"), "the same, with `systemctl edit ollamad`"),
}
"""What a variable of a stock Ollama is called here; all others go into [ollama.env]."""


def run(*command: str) -> str:
    """Run a command to its end; gives what it printed. Raises StartError with its own words where it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StartError(f"`{' '.join(command)}` failed: {error}") from error
    if done.returncode != 0:
        raise StartError(f"`{' '.join(command)}` failed: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def says(*command: str) -> str:
    """What a command prints, whether it succeeds or not: `systemctl is-active` fails to say no."""
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S).stdout.strip()  # noqa: S603


def systemd_version() -> int | None:
    """Of the systemd here; None where there is none."""
    if shutil.which("systemctl") is None:
        return None
    words = says("systemctl", "--version").split()
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else None


def programs() -> Path:
    """The folder that holds our commands: that of the Python which runs this. Raises StartError."""
    folder = Path(sys.executable).parent
    missing = [name for name in PROGRAMS if not os.access(folder / name, os.X_OK)]
    if missing:
        raise StartError(f"there is no {missing[0]} in {folder}: install ollamad with pip or pipx first, and call that")
    return folder


def why_out_of_reach(folder: Path) -> str | None:
    """Why a service with a user of its own can't run what is in this folder; None where it can."""
    parts = (folder, Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable).resolve(), Path(ollamad.__file__))
    for part in parts:
        if hidden := next((at for at in map(str, part.parents) if at in HIDDEN), None):
            return f"{part} is below {hidden}, which the service can't see"
        for at in (part, *part.parents):
            if not at.stat().st_mode & (stat.S_IXOTH if at.is_dir() else stat.S_IROTH):
                return f"{at} is closed to other users"
    return None


def service_user() -> pwd.struct_passwd | None:
    """Who the service of ollamad runs as here; None where there is no such service, or systemd does not run this."""
    if not RUNNING.exists():
        return None
    name = says("systemctl", "show", "--property=User", "--value", OURS)
    try:
        return pwd.getpwnam(name) if name else None
    except KeyError:  # it is made when the service is installed
        return None


def stock() -> Stock | None:
    """The stock Ollama that is a service here, running or to be started at boot; None where there is none."""
    found = (says("systemctl", "is-active", STOCK), says("systemctl", "is-enabled", STOCK))
    was = tuple(word for word in found if word in {"active", "activating", "enabled"})
    if not was:
        return None
    user = says("systemctl", "show", "--property=User", "--value", STOCK) or "root"
    models, told = what_it_is_told(says("systemctl", "show", "--property=Environment", "--value", STOCK))
    if files := says("systemctl", "show", "--property=EnvironmentFiles", "--value", STOCK):
        told = (*told, f"what is in {files.split()[0]}")
    return Stock(
        user,
        Path(pwd.getpwnam(user).pw_dir),
        tuple("active" if word == "activating" else word for word in was),
        models,
        told,
    )


def what_it_is_told(environment: str) -> tuple[Path | None, tuple[str, ...]]:
    """Where the variables of a stock Ollama have its models, and the names of its others, with our key for each.

    Only names: what they hold may be a secret.
    """
    found = dict(entry.partition("=")[::2] for entry in shlex.split(environment))
    models = found.pop("OLLAMA_MODELS", "")
    others = (f"{name} ({_OURS.get(name, 'ollama.env')})" for name in found if name not in _EVERYONES)
    return Path(models) if models else None, tuple(others)


def is_outdated(pid: int) -> bool:
    """Whether a process was started before the program on the disk was installed."""
    try:
        return psutil.Process(pid).create_time() < Path(ollamad.__file__).stat().st_ctime
    except psutil.NoSuchProcess:
        return False
