"""Packages of npm and a Node to run them with, for tests: a client, and schemas of Prometheus' operator."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from ollamad.demo.packages import build_once
from ollamad.demo.parts import default_cache
from ollamad.errors import StartError

CLIENT: Final = "ollama@0.6.4"
OPERATOR: Final = "@kubernetes-models/prometheus-operator@6.0.0"
_INSTALL: Final = ("install", "--no-audit", "--no-fund", "--no-save", "--ignore-scripts")
_INSTALL_S: Final = 60
"""It takes one second."""


def npm_package(package: str, cache: Path, say: Callable[[str], None] = print) -> Path:
    """A folder whose scripts may import a package, `name@version`, kept under `cache`; got with npm where it is new.

    npm's own settings apply. Raises StartError, with what npm said, where it can't be had.
    """
    folder = cache / f"npm-{package.strip('@').replace('/', '-').replace('@', '-')}"
    build_once(folder, partial(_install, package), say)
    return folder


def _install(package: str, made: Path) -> None:
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        raise StartError("this machine has no node with npm: install them: sudo apt-get install nodejs npm")
    try:
        done = subprocess.run(
            [npm, *_INSTALL, package, "--prefix", str(made)],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=False,
            timeout=_INSTALL_S,
        )
    except subprocess.TimeoutExpired as error:
        raise StartError(f"npm took more than {_INSTALL_S} seconds to install {package}") from error
    if done.returncode:
        raise StartError(f"npm couldn't install {package}: " + " / ".join(done.stderr.strip().splitlines()[:3]))


@pytest.fixture(scope="session")
def node_client() -> Path:
    """The folder of the client; the test is skipped where there is no Node, or nothing to get it from."""
    return _had(CLIENT)


@pytest.fixture(scope="session")
def operator_schemas() -> Path:
    """The folder of the operator's schemas, or a skip, alike."""
    return _had(OPERATOR)


def _had(package: str) -> Path:
    try:
        folder = npm_package(package, default_cache())
    except StartError as error:
        pytest.skip(str(error))
    if shutil.which("node") is None:
        pytest.skip("this machine has no node")
    return folder
