"""The wheel and the source archive: they hold what they must, and what comes out of the wheel serves."""

from __future__ import annotations

import asyncio
import email
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Final

import aiohttp
import pytest

from tests.support.daemon import Daemons

ROOT: Final = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The source archive, and the wheel that was built of nothing but it."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (source,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return source, wheel


def test_the_wheel_has_every_file_of_the_package_and_nothing_else(built: tuple[Path, Path]) -> None:
    held = {name for name in zipfile.ZipFile(built[1]).namelist() if ".dist-info/" not in name}
    here = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "ollamad").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert held == here
    assert "ollamad/py.typed" in held


def test_the_wheel_says_its_licence_and_has_both_commands(built: tuple[Path, Path]) -> None:
    archive = zipfile.ZipFile(built[1])
    (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    told = email.message_from_bytes(archive.read(metadata))
    assert told["License-Expression"] == "MIT"
    assert metadata.replace("METADATA", "licenses/LICENSE") in archive.namelist()
    (commands,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
    assert archive.read(commands).decode().split()[1::3] == ["ollamactl", "ollamad"]


def test_the_source_archive_has_what_it_takes_to_test_and_to_deploy_it(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[0]) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    for needed in (
        *("Makefile", "constraints.txt", "config.example.toml", "README.md", "LICENSE", "CHANGELOG.md"),
        *("tests/conftest.py", "docs/ARCHITECTURE.md", "deploy/kubernetes/ollamad.yaml", "bench/live_routing.py"),
    ):
        assert needed in held, needed
    assert not [name for name in held if name.startswith(".venv") or "__pycache__" in name]


async def test_what_the_wheel_installs_serves_and_shows_its_dashboard(
    built: tuple[Path, Path], daemons: Daemons, sim_ollama: Path, sim_store: Path, tmp_path: Path
) -> None:
    installed = tmp_path / "installed"
    with zipfile.ZipFile(built[1]) as wheel:
        await asyncio.to_thread(wheel.extractall, installed)
    env = {"PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1"}
    where = [sys.executable, "-c", "import ollamad; print(ollamad.__file__)"]
    found = subprocess.run(where, env=env, cwd=tmp_path, capture_output=True, text=True, check=True)  # noqa: ASYNC221
    assert Path(found.stdout.strip()).is_relative_to(installed)
    async with (
        daemons.run(sim_ollama, store=sim_store, env=env) as daemon,
        aiohttp.ClientSession(daemon.status_url) as session,
    ):
        for path in ("/", "/status", "/status.schema.json", "/metrics"):
            async with session.get(path) as answer:
                assert answer.status == 200, path
