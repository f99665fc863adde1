"""`ollamad check` and the command line around it, as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from ollamad import __version__
from ollamad.cli import main as cli
from ollamad.config.render import render_example

Outcome = subprocess.CompletedProcess[str]
Run = Callable[..., Outcome]


@pytest.fixture
def ollamad(tmp_path: Path) -> Run:
    """Run the command in a place with nothing but an ollama, with no environment but what a test gives it."""
    program = tmp_path / "bin" / "ollama"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    path = f"{program.parent}{os.pathsep}{os.defpath}"

    def run(*arguments: str, **environment: str) -> Outcome:
        return subprocess.run(
            [sys.executable, "-m", "ollamad", *arguments],
            env={"PATH": path, "HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path), **environment},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "ollamad.toml"
    path.write_text('[proxy]\nlisten = "127.0.0.1:8001"\nattempts_max = 2\n[log]\nlevel = "error"\n')
    return path


def in_force(outcome: Outcome) -> dict[str, dict[str, object]]:
    assert (outcome.returncode, outcome.stderr) == (0, "")
    return tomllib.loads(outcome.stdout)


def test_a_good_file_exits_with_0_and_prints_what_is_in_force_and_who_said_so(ollamad: Run, file: Path) -> None:
    outcome = ollamad("check", "--config", str(file))
    said = in_force(outcome)
    assert said["proxy"]["listen"] == "127.0.0.1:8001"
    assert said["status"]["listen"] == "127.0.0.1:11480"
    assert f'# {file}:2\nlisten = "127.0.0.1:8001"\n' in outcome.stdout


def test_a_good_file_without_an_ollama_passes_and_says_that_it_would_not_start_here(ollamad: Run, file: Path) -> None:
    outcome = ollamad("check", "--quiet", "--config", str(file), "--set", "ollama.binary=/nowhere/ollama")
    assert (outcome.returncode, outcome.stdout) == (0, "")
    assert "nothing would start here: /nowhere/ollama is no program" in outcome.stderr


def test_flags_go_before_environment_and_environment_before_the_file(ollamad: Run, file: Path) -> None:
    outcome = ollamad(
        *("check", "--config", str(file), "--set", "log.level=debug", "--set", "gpus.exclude=[1, 2]"),
        OLLAMAD_LOG_LEVEL="warning",
        OLLAMAD_PROXY_ATTEMPTS_MAX="5",
        OLLAMAD_GPUS_EXCLUDE="[0]",
    )
    said = in_force(outcome)
    assert said["log"]["level"] == "debug"
    assert said["gpus"]["exclude"] == [1, 2]
    assert said["proxy"]["attempts_max"] == 5
    assert said["proxy"]["listen"] == "127.0.0.1:8001"
    for who in ("--set", "OLLAMAD_PROXY_ATTEMPTS_MAX", f"{file}:2"):
        assert f"\n# {who}\n" in outcome.stdout


def test_ollamad_config_names_the_file_and_the_flag_goes_before_it(ollamad: Run, file: Path, tmp_path: Path) -> None:
    named = ollamad("check", OLLAMAD_CONFIG=str(file))
    assert in_force(named)["proxy"]["attempts_max"] == 2
    other = tmp_path / "other.toml"
    other.write_text("[proxy]\nattempts_max = 7\n")
    flagged = ollamad("check", "--config", str(other), OLLAMAD_CONFIG=str(file))
    assert in_force(flagged)["proxy"]["attempts_max"] == 7


def test_a_bad_file_exits_with_2_and_tells_every_problem_and_nothing_else(ollamad: Run, file: Path) -> None:
    file.write_text('[proxy]\nlisten = "11434"\nlissen = 1\n[log]\nlevel = "warn"\n')
    outcome = ollamad("check", "--config", str(file), "--set", "gpus.include=[-1]", OLLAMAD_TYPO="x")
    assert (outcome.returncode, outcome.stdout) == (2, "")
    head, *problems = outcome.stderr.splitlines()
    assert head == "ollamad: 5 problems in the configuration:"
    assert [line.partition(":")[0].strip() for line in problems] == [
        "gpus.include = [-1] (--set)",
        f'log.level = "warn" ({file}',
        f"proxy.lissen = 1 ({file}",
        f'proxy.listen = "11434" ({file}',
        "typo. (OLLAMAD_TYPO)",
    ]
    assert all(line.startswith("  ") for line in problems)


@pytest.mark.parametrize("command", ["check", "serve", "demo"])
def test_no_command_goes_on_with_a_bad_configuration(ollamad: Run, command: str) -> None:
    outcome = ollamad(command, "--set", "log.level=loud")
    assert (outcome.returncode, outcome.stdout) == (2, "")
    assert outcome.stderr.startswith('ollamad: 1 problem in the configuration:\n  log.level = "loud" (--set): ')


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["check", "--set", "listen"], "  listen (--set): expected TABLE.KEY=VALUE"),
        (["check", "--config", "none.toml"], "  none.toml: can't be read: No such file"),
        (["check", "--config", "."], "  .: can't be read: Is a directory"),
        (["chekc"], "invalid choice: 'chekc'"),
        ([], "the following arguments are required: COMMAND"),
        (["check", "--exam"], "unrecognized arguments: --exam"),
    ],
)
def test_wrong_usage_exits_with_2_and_says_why(ollamad: Run, arguments: list[str], says: str) -> None:
    outcome = ollamad(*arguments)
    assert (outcome.returncode, outcome.stdout) == (2, "")
    assert says in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_a_start_that_fails_exits_with_1_and_says_why(ollamad: Run, tmp_path: Path) -> None:
    outcome = ollamad("serve", "--set", f"ollama.binary={tmp_path}/none")
    assert (outcome.returncode, outcome.stdout) == (1, "")
    assert f"ollamad: {tmp_path}/none is no program that can be run" in outcome.stderr


def test_the_version_is_told(ollamad: Run) -> None:
    outcome = ollamad("--version")
    assert (outcome.returncode, outcome.stdout, outcome.stderr) == (0, f"ollamad {__version__}\n", "")


def test_the_example_is_printed_whatever_the_configuration(ollamad: Run) -> None:
    outcome = ollamad("check", "--example", OLLAMAD_LOG_LEVEL="loud")
    assert (outcome.returncode, outcome.stdout, outcome.stderr) == (0, render_example(), "")


def test_where_no_file_is_named_the_systems_is_read_if_there_is_one(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in os.environ if name.startswith("OLLAMAD_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    for system, attempts in ((file, 2), (tmp_path / "none.toml", 3)):
        monkeypatch.setattr(cli, "SYSTEM_CONFIG", system)
        assert cli.main(["check"]) == 0
        assert tomllib.loads(capsys.readouterr().out)["proxy"]["attempts_max"] == attempts
