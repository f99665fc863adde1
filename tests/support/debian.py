"""Programs out of Debian's archive for tests that need them, without root and without installing anything."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.support.own_number import own_number

_SYSTEM_FOLDERS: Final = os.pathsep.join(("/usr/sbin", "/usr/bin", "/sbin", "/bin"))


def debian_program(package: str, path_in_package: str, cache: Path, libraries: Sequence[str] = ()) -> Path:
    """Return the path of a program: the machine's own where it has one, else one unpacked from its package in `cache`.

    `path_in_package` is like `usr/sbin/nginx`, and the package is the one that holds it (in Debian 12 that is `nginx`;
    `nginx-light` only depends on it). Any user may call it; it asks the network only when nothing else helps.
    `libraries` are packages of shared libraries that it needs beside; run it with `library_path` then. Raises
    RuntimeError when a package can't be had, or needs libraries that this machine hasn't.
    """
    name = Path(path_in_package).name
    installed = shutil.which(name) or shutil.which(name, path=_SYSTEM_FOLDERS)
    if installed is not None:
        return Path(installed)
    program = cache / package / path_in_package
    if not program.exists():
        _unpack(package, cache)
    if not program.exists():
        raise RuntimeError(
            f"the Debian package {package} has no {path_in_package}: is it one that only depends on what has it?"
        )
    for library in libraries:
        if not (cache / library).exists():
            _unpack(library, cache)
    _check_libraries(program, library_path(cache, libraries))
    return program


def library_path(cache: Path, libraries: Sequence[str]) -> str:
    """LD_LIBRARY_PATH with which a program finds the libraries that were unpacked for it."""
    places = ("usr/lib/*-linux-gnu", "lib/*-linux-gnu")
    return os.pathsep.join(str(at) for name in libraries for place in places for at in (cache / name).glob(place))


def _unpack(package: str, cache: Path) -> None:
    scratch = cache / f"{package}.{own_number()}"
    scratch.mkdir(parents=True)
    try:
        _download(package, scratch)
        (archive,) = scratch.glob("*.deb")
        _run(["dpkg", "-x", archive.name, "unpacked"], scratch)
        (scratch / "unpacked").rename(cache / package)
    except OSError:
        if not (cache / package).is_dir():  # otherwise another test run was faster, and its copy is as good
            raise
    finally:
        shutil.rmtree(scratch)


def _download(package: str, folder: Path) -> None:
    """Get the .deb with the machine's own package lists, or, where these are empty or old, with fresh private ones."""
    fetch = ["apt-get", "--quiet", "download", package]
    try:
        _run(fetch, folder)
    except RuntimeError:
        for private in ("lists/partial", "cache/archives/partial"):
            (folder / private).mkdir(parents=True)
        own = ["-o", f"Dir::State::Lists={folder / 'lists'}", "-o", f"Dir::Cache={folder / 'cache'}"]
        _run(["apt-get", *own, "--quiet", "update"], folder)
        _run([*fetch, *own], folder)


def _check_libraries(program: Path, path: str) -> None:
    found = _run(["ldd", str(program)], program.parent, {**os.environ, "LD_LIBRARY_PATH": path})
    missing = [line.strip() for line in found.splitlines() if "not found" in line]
    if missing:
        raise RuntimeError(f"{program} can't run here: {'; '.join(missing)}. Install its package with apt-get")


def _run(command: list[str], folder: Path, env: Mapping[str, str] | None = None) -> str:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, env=env)
    except FileNotFoundError as error:
        raise RuntimeError(f"this is no Debian, it has no {command[0]}: install the program yourself") from error
    except subprocess.CalledProcessError as error:
        raise RuntimeError(f"{' '.join(command)} failed: {error.stderr.strip()}") from error
    return done.stdout
