"""A file system that shares extents, in a file: mounted for one test."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from ollamad.demo.parts import default_cache
from tests.support.debian import debian_program, library_path

SIZE_BYTES: Final = 256 * 1024**2
PACKAGE: Final = "btrfs-progs"
LIBRARIES: Final = ("liblzo2-2",)


@contextmanager
def btrfs(folder: Path, *subvolumes: str) -> Iterator[Path]:
    """One with these subvolumes, between which no hard link leads; skips where none can be made and mounted."""
    if os.geteuid() != 0:
        pytest.skip("only root mounts a file system")
    image, mounted = folder / "btrfs.img", folder / "btrfs"
    with image.open("wb") as file:
        file.truncate(SIZE_BYTES)
    mounted.mkdir()
    try:
        make, manage = (
            debian_program(PACKAGE, path, default_cache() / "debian", LIBRARIES)
            for path in ("sbin/mkfs.btrfs", "bin/btrfs")
        )
    except RuntimeError as error:
        pytest.skip(f"there is no mkfs.btrfs here: {error}")
    _run(make, "--quiet", image)
    mounting = subprocess.run(["mount", "-o", "loop", image, mounted], capture_output=True, text=True, check=False)
    if mounting.returncode != 0:
        pytest.skip(f"no btrfs can be mounted here: {mounting.stderr.strip()}")
    try:
        for name in subvolumes:
            _run(manage, "subvolume", "create", mounted / name)
        yield mounted
    finally:
        _run("umount", mounted)


def _run(*command: str | Path) -> None:
    env = {**os.environ, "LD_LIBRARY_PATH": library_path(default_cache() / "debian", LIBRARIES)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
