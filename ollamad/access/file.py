"""The file of keys: TOML, ollamad's alone. It is replaced whole, so that no reader ever sees half of it."""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import tomli_w

from ollamad.access.key import Key
from ollamad.config.checks import nearest_there
from ollamad.errors import ConfigError, OperationFailed, Problem

HEADER: Final = "# The API keys of ollamad, as hashes. Change it with: ollamactl key create|list|revoke\n\n"
MODE: Final = 0o600
ID: Final = "^[a-z2-7]{8}$"
SIZE_MAX_BYTES: Final = 64 * 1024**2
ROOT: Final = 0

Signature = tuple[int, ...]


class _Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The document."""

    keys: dict[Annotated[str, msgspec.Meta(pattern=ID)], Key] = {}


def read_keys(path: Path) -> dict[str, Key]:
    """All keys by their id; none where there is no file yet. Raises ConfigError with what to do."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:  # a pipe would be waited for
            if problem := _why_not_trusted(os.fstat(file.fileno()), path):
                raise _refused(path, problem)
            text = file.read(SIZE_MAX_BYTES)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise _refused(
            path, f"can't be read: {error.strerror}; it must belong to the user that runs ollamad"
        ) from error
    try:
        return msgspec.convert(tomllib.loads(text.decode()), _Kept).keys
    except (ValueError, RecursionError) as error:  # no TOML, no UTF-8, or no keys
        raise _refused(path, f"holds no keys: {error}") from error


def write_keys(path: Path, keys: Mapping[str, Key]) -> None:
    """Replace the file. Raises OperationFailed where it can't be written; it is as it was then."""
    text = HEADER + tomli_w.dumps({"keys": {name: _table(key) for name, key in keys.items()}})
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh.unlink(missing_ok=True)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE), "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as error:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise OperationFailed(f"{path} can't be written: {error.strerror}; no key has changed") from error


def why_not_changeable(path: Path) -> str | None:
    """Why `write_keys` would fail for this user; None where it would not. Nothing is made to find out."""
    at = nearest_there(path.parent)
    if os.access(at, os.W_OK | os.X_OK):
        return None
    return f"no key can be created or revoked: {at} can't be written by this user (uid {os.geteuid()})"


def signature(path: Path) -> Signature:
    """What changes when a file does; empty where there is none that can be looked at."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _why_not_trusted(found: os.stat_result, path: Path) -> str | None:
    """Who can write to it makes keys, and who can read it knows who has which."""
    if not stat.S_ISREG(found.st_mode):
        return "is not a file"
    if found.st_uid not in {ROOT, os.geteuid()}:
        return f"belongs to another user (uid {found.st_uid}): chown {os.geteuid()} {path}"
    if stat.S_IMODE(found.st_mode) & 0o077:
        return f"is open to others (mode {stat.S_IMODE(found.st_mode):04o}): chmod 600 {path}"
    return None


def _table(key: Key) -> dict[str, Any]:
    """A key as a table of the file; TOML has no null, and its absence is the default."""
    found: dict[str, Any] = msgspec.to_builtins(key, builtin_types=[datetime])
    return {name: value for name, value in found.items() if value is not None}


def _refused(path: Path, why: str) -> ConfigError:
    return ConfigError((Problem("access.keys_file", why, str(path)),))
