"""Installing into another root: what needs no systemd. The rest is tried on a booted machine, in tests/systemd."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import ollamad
from ollamad.cli.main import main
from ollamad.systemd import machine
from ollamad.systemd.files import AS_OLLAMA, CONFIG, NEW_CONFIG, STATE, Stock, service_files, what_ollama_was
from ollamad.systemd.install import install, uninstall


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir()}


def installed(root: Path) -> list[str]:
    told: list[str] = []
    install(root, told.append)
    return told


def test_the_second_time_nothing_is_done(tmp_path: Path) -> None:
    assert any(line.startswith("made") for line in installed(tmp_path))
    before = {path: (tmp_path / path).lstat().st_mtime_ns for path in files(tmp_path)}
    told = installed(tmp_path)
    assert not any(line.startswith(("made", "changed")) for line in told)
    assert before == {path: (tmp_path / path).lstat().st_mtime_ns for path in files(tmp_path)}


def test_a_unit_that_was_changed_is_put_right_and_a_configuration_is_not(tmp_path: Path) -> None:
    installed(tmp_path)
    (tmp_path / "etc/systemd/system/ollamad.service").write_text("old")
    (tmp_path / CONFIG).write_text("[log]\n")
    assert f"changed {tmp_path}/etc/systemd/system/ollamad.service" in installed(tmp_path)
    assert (tmp_path / CONFIG).read_text() == "[log]\n"


def test_uninstalled_nothing_is_left(tmp_path: Path) -> None:
    installed(tmp_path)
    uninstall(tmp_path, lambda _: None)
    assert files(tmp_path) == set()
    assert not (tmp_path / CONFIG.parent).exists()


def test_what_an_operator_wrote_stays(tmp_path: Path) -> None:
    installed(tmp_path)
    (tmp_path / CONFIG).write_text("[log]\n")
    (tmp_path / STATE).mkdir(parents=True)
    own = "etc/systemd/system/ollamad.service.d/override.conf"
    (tmp_path / own).parent.mkdir()
    (tmp_path / own).write_text("[Service]\n")
    told: list[str] = []
    uninstall(tmp_path, told.append)
    assert files(tmp_path) == {own, str(CONFIG)}
    assert any("override.conf is yours" in line for line in told)
    assert any("config.toml is yours" in line for line in told)
    installed(tmp_path)
    assert (tmp_path / CONFIG).read_text() == "[log]\n", "installed again it goes by it"


def test_nothing_to_uninstall_is_said(tmp_path: Path) -> None:
    told: list[str] = []
    uninstall(tmp_path, told.append)
    assert told == ["ollamad is not installed as a service here"]


def test_a_command_of_somebody_else_s_is_left_alone(tmp_path: Path) -> None:
    theirs = tmp_path / "usr/local/bin/ollamactl"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("#!/bin/sh\n")
    installed(tmp_path)
    uninstall(tmp_path, lambda _: None)
    assert files(tmp_path) == {"usr/local/bin/ollamactl"}


def test_a_link_that_leads_nowhere_is_replaced(tmp_path: Path) -> None:
    link = tmp_path / "usr/local/bin/ollamad"
    link.parent.mkdir(parents=True)
    link.symlink_to("/gone/bin/ollamad")
    installed(tmp_path)
    assert link.resolve() == (machine.programs() / "ollamad").resolve()


def test_the_first_configuration_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.toml").write_text(NEW_CONFIG)
    program = f"ollama.binary={sys.executable}"  # any will do
    assert main(["check", "--quiet", "--config", str(tmp_path / "config.toml"), "--set", program]) == 0
    assert capsys.readouterr().out == ""


def test_a_check_that_is_quiet_still_tells_problems(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.toml").write_text("[log]\nlevel = 1\n")
    assert main(["check", "--quiet", "--config", str(tmp_path / "config.toml")]) == 2
    assert "log.level = 1" in capsys.readouterr().err


def test_what_the_stock_service_was_is_remembered(tmp_path: Path) -> None:
    assert what_ollama_was(tmp_path) is None
    text = service_files(Path("/opt/x/bin"), None, Stock("ollama", Path("/usr/share/ollama"), ("active",)))[AS_OLLAMA]
    (tmp_path / AS_OLLAMA).parent.mkdir(parents=True)
    (tmp_path / AS_OLLAMA).write_text(text)
    assert what_ollama_was(tmp_path) == ("active",)
    assert "User=ollama\n" in text


def test_the_models_of_the_stock_service_come_along_from_where_its_environment_has_them() -> None:
    environment = (
        'OLLAMA_MODELS=/home/llm/models "OLLAMA_HOST=0.0.0.0" PATH=/usr/bin HTTPS_PROXY=http://me:secret@proxy:1'
    )
    models, told = machine.what_it_is_told(environment)
    assert models == Path("/home/llm/models")
    assert told == (
        "OLLAMA_HOST (proxy.listen, and ollamad.socket)",
        "HTTPS_PROXY (the same, with `systemctl edit ollamad`)",
    )
    stock = Stock("ollama", Path("/usr/share/ollama"), ("active",), models, told)
    text = service_files(Path("/opt/x/bin"), None, stock)[AS_OLLAMA]
    assert "ReadWritePaths=/usr/share/ollama /home/llm/models\n" in text
    assert "Environment=OLLAMAD_MODELS_PATH=/home/llm/models\n" in text
    assert "ProtectHome=no\n" in text, "which would hide them"


def test_a_process_older_than_its_program_is_outdated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "__init__.py").write_text("")
    monkeypatch.setattr(ollamad, "__file__", str(tmp_path / "__init__.py"))
    assert machine.is_outdated(1)
    monkeypatch.setattr(ollamad, "__file__", os.__file__)
    with subprocess.Popen(["sleep", "60"]) as younger:
        outdated = machine.is_outdated(younger.pid)
        younger.kill()
    assert not outdated
    assert not machine.is_outdated(younger.pid), "it is gone"


def test_a_program_that_the_service_s_user_can_t_reach_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "HIDDEN", (str(tmp_path),))
    assert (
        machine.why_out_of_reach(tmp_path / "bin") == f"{tmp_path}/bin is below {tmp_path}, which the service can't see"
    )
    monkeypatch.setattr(machine, "HIDDEN", ())
    (tmp_path / "bin").mkdir()
    tmp_path.chmod(0o700)
    assert machine.why_out_of_reach(tmp_path / "bin") == f"{tmp_path} is closed to other users"


def test_here_it_says_that_it_needs_root_or_systemd(capsys: pytest.CaptureFixture[str]) -> None:
    if machine.RUNNING.exists():
        pytest.skip("this machine is run by systemd: it would be installed")
    assert main(["install-service"]) == 1
    err = capsys.readouterr().err
    assert "needs root" in err or "not run by systemd" in err
