"""Finding the ollama program."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ollamad.errors import StartError


def find_binary(setting: str, path: str | None) -> Path:
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
            " (to only try ollamad, `ollamad demo` gets one)"
        )
    return Path(found).absolute()
