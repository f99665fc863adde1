"""The units as they are installed: systemd finds nothing wrong with them, and they leave little open."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from ollamad.systemd.files import COMMANDS, NOTIFY_RELOAD_FROM, PLACES, PROGRAMS, UNITS, Stock, service_files

EXPOSURE_MAX: Final = 3.0
PROGRAM_FOLDER: Final = Path("/opt/elsewhere/bin")


@pytest.fixture
def analyze() -> str:
    found = shutil.which("systemd-analyze")
    if found is None:
        pytest.skip("there is no systemd-analyze here: apt-get install systemd")
    return found


@pytest.fixture(
    params=[
        None,
        Stock("ollama", Path("/usr/share/ollama"), ("active", "enabled")),
        Stock("ollama", Path("/usr/share/ollama"), ("active",), Path("/home/llm/models")),
    ]
)
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A root with the service in it: by itself, and in place of the stock Ollama."""
    for place, text in service_files(PROGRAM_FOLDER, None, request.param).items():
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text(text)
    for folder in (PROGRAM_FOLDER.relative_to("/"), COMMANDS):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        for name in PROGRAMS:
            (tmp_path / folder / name).write_text("#!/bin/sh\n")
            (tmp_path / folder / name).chmod(0o755)
    shutil.copytree("/lib/systemd/system", tmp_path / "lib/systemd/system", symlinks=True)
    return tmp_path


def test_systemd_finds_nothing_wrong_with_them(analyze: str, root: Path) -> None:
    units = ("ollamad.service", "ollamad.socket", "ollamad-devices.service")
    command = [analyze, "verify", f"--root={root}", *(str(root / UNITS / unit) for unit in units)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    complaints = [line for line in (done.stdout + done.stderr).splitlines() if "ollamad" in line]
    assert complaints == []


def test_what_they_leave_open_is_little(analyze: str, root: Path) -> None:
    command = [analyze, "security", "--offline=true", f"--root={root}", "--no-pager", "ollamad.service"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    assert float(found[1]) <= EXPOSURE_MAX


@pytest.mark.parametrize("version", [None, 252, NOTIFY_RELOAD_FROM])
def test_notify_reload_is_for_those_who_know_it(version: int | None) -> None:
    files = service_files(PROGRAM_FOLDER, version)
    assert (PLACES["notify-reload.conf"] in files) == (version == NOTIFY_RELOAD_FROM)
    assert "Type=notify\n" in files[PLACES["ollamad.service"]]


def test_every_command_is_of_the_installed_program() -> None:
    for text in service_files(PROGRAM_FOLDER, NOTIFY_RELOAD_FROM).values():
        assert "/opt/ollamad" not in text
        for command in re.findall(r"^Exec\w+=-?(\S+)", text, re.MULTILINE):
            assert command.startswith(f"{PROGRAM_FOLDER}/") or command == "/usr/bin/nvidia-modprobe"


def test_every_looser_setting_has_its_reason_beside_it() -> None:
    text = service_files(PROGRAM_FOLDER, None)[PLACES["ollamad.service"]]
    for name in (
        "MemoryDenyWriteExecute",
        "PrivateUsers",
        "PrivateNetwork",
        "ProcSubset",
        "PrivateDevices",
        "Delegate",
    ):
        assert re.search(rf"^#   {name}=\S*.*\w", text, re.MULTILINE), name
