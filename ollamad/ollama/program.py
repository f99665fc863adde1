"""The ollama program: found once, and watched for the new one that an upgrade puts in its place."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from ollamad.errors import StartError

log = structlog.get_logger()

LOOK_S: Final = 5.0

Stamp = tuple[int, int, int]
"""What tells one program file from another: inode, time of change, size."""


def find_program(setting: str, path: str | None) -> Path:
    """The program that `ollama.binary` names: a path, or a name looked up on `path` (a PATH). Raises StartError."""
    if os.sep in setting:
        program = Path(os.path.expanduser(setting))  # noqa: PTH111  (leaves the ~ of an unknown user as it is)
        if not program.is_file() or not os.access(program, os.X_OK):
            raise StartError(f"{program} is no program that can be run; set [ollama] binary to the ollama program")
        return program.absolute()
    found = shutil.which(setting, path=path)
    if found is None:
        raise StartError(
            f"no program {setting!r} on PATH; install Ollama, or set [ollama] binary to its path"
            " (to only try ollamad, `ollamad demo --real` gets one)"
        )
    return Path(found).absolute()


class Program:
    """A program file, which may change while children run what it was."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._latest = self.stamp()

    def move(self, path: Path) -> None:
        """The configuration names another file from now on."""
        self.path = path
        self._latest = self.stamp()

    def stamp(self) -> Stamp | None:
        """The file as it is now; None while it is not there, as in the middle of an upgrade."""
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def is_outdated(self, started: Stamp | None) -> bool:
        """Whether a process that was started from `started` runs another program than the one that is there."""
        return started is not None and self._latest is not None and started != self._latest

    async def watch(self, changed: Callable[[], None]) -> None:
        """Look from time to time until cancelled, and say once that there is a new one."""
        while True:
            await asyncio.sleep(LOOK_S)
            if (stamp := self.stamp()) not in {None, self._latest}:
                self._latest = stamp
                log.warning(
                    "new ollama program", path=str(self.path), advice="`ollamactl restart --rolling` takes it into use"
                )
                changed()
