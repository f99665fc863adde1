"""The npm package `ollama` and a Node to run it with, for tests."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from ollamad.demo.packages import build_once
from ollamad.demo.parts import default_cache
from ollamad.errors import StartError

VERSION: Final = "0.6.4"
_INSTALL: Final = ("install", "--no-audit", "--no-fund", "--no-save", "--ignore-scripts", f"ollama@{VERSION}")
_INSTALL_S: Final = 60
"""It takes one second."""


def npm_ollama(cache: Path, say: Callable[[str], None] = print) -> Path:
    """A folder whose scripts may import `ollama`, kept under `cache`; got with npm where it is not there.

    npm's own settings apply. Raises StartError, with what npm said, where it can't be had.
    """
    folder = cache / f"npm-ollama-{VERSION}"
    build_once(folder, _install, say)
    return folder


def _install(made: Path) -> None:
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        raise StartError("this machine has no node with npm: install them: sudo apt-get install nodejs npm")
    try:
        done = subprocess.run(
            [npm, *_INSTALL, "--prefix", str(made)],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=False,
            timeout=_INSTALL_S,
        )
    except subprocess.TimeoutExpired as error:
        raise StartError(f"npm took more than {_INSTALL_S} seconds to install ollama") from error
    if done.returncode:
        raise StartError("npm couldn't install ollama: " + " / ".join(done.stderr.strip().splitlines()[:3]))


@pytest.fixture(scope="session")
def node_client() -> Path:
    """The folder of the npm package; the test is skipped where there is no Node, or nothing to get it from."""
    try:
        folder = npm_ollama(default_cache())
    except StartError as error:
        pytest.skip(str(error))
    if shutil.which("node") is None:
        pytest.skip("this machine has no node")
    return folder
