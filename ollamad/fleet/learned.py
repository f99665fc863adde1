"""What was learned, kept in a file across restarts: a daemon that starts again need not learn again.

A file that is damaged or of another version is left out, with a word in the log; nothing depends on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
import structlog

from ollamad.config.checks import expand
from ollamad.routing.estimate import Estimate
from ollamad.routing.knowledge import Knowledge, What

log = structlog.get_logger()

VERSION: Final = 1
NAME: Final = "learned.json"
SAVE_S: Final = 60.0


class _Value(msgspec.Struct):
    what: What
    model: str
    kind: str
    estimate: Estimate


class _File(msgspec.Struct):
    version: int
    values: list[_Value]


def state_file(setting: str, environ: Mapping[str, str], home: str) -> Path | None:
    """Where it is kept: as set, else where systemd says, else under the home; None where nothing is to be kept."""
    if not setting:
        return None
    given = environ.get("STATE_DIRECTORY", "").partition(":")[0]
    folder = expand(setting, home) if setting != "auto" else Path(given or f"{home}/.local/state/ollamad")
    return folder / NAME


def recall(path: Path, knowledge: Knowledge) -> None:
    """Read what was kept, if anything was."""
    try:
        found = msgspec.json.decode(path.read_bytes(), type=_File)
    except FileNotFoundError:
        return
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        log.warning("learned values not read", path=str(path), error=str(error))
        return
    if found.version != VERSION:
        log.warning("learned values not read", path=str(path), error=f"version {found.version}, not {VERSION}")
        return
    knowledge.values.update({(value.what, value.model, value.kind): value.estimate for value in found.values})
    log.info("learned values read", path=str(path), values=len(found.values))


def written(knowledge: Knowledge) -> bytes:
    """What is to be kept, as it is in the file."""
    values = [_Value(what, model, kind, estimate) for (what, model, kind), estimate in knowledge.values.items()]
    return msgspec.json.encode(_File(VERSION, values))


def keep(path: Path, text: bytes) -> None:
    """Write it; the file is whole at any moment. A fault is told, and costs nothing else."""
    new = path.with_suffix(".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new.write_bytes(text)
        new.replace(path)
    except OSError as error:
        log.warning("learned values not kept", path=str(path), error=str(error))
