"""`ollamad check` and the command line around it, as a process of its own."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from ollamad import __version__
from ollamad.cli import main as cli
from ollamad.config.render import render_example
from tests.support.tls import make_pair

Outcome = subprocess.CompletedProcess[str]
Run = Callable[..., Outcome]


@pytest.fixture
def ollamad(tmp_path: Path) -> Run:
    """Run the command in a place with nothing but an ollama, and no environment but what a test gives it."""
    program = tmp_path / "bin" / "ollama"
    program.parent.mkdir()
    program.touch(mode=0o755)

    def run(*arguments: str, **environment: str) -> Outcome:
        return subprocess.run(
            [sys.executable, "-m", "ollamad", *arguments],
            env={
                "PATH": f"{tmp_path}/bin:{os.defpath}",
                "HOME": str(tmp_path),
                "PYTHONPATH": os.pathsep.join(sys.path),
                "OLLAMAD_SOCKET": f"{tmp_path}/control.sock",
                **environment,
            },
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
    monkeypatch.setenv("OLLAMAD_OLLAMA_BINARY", sys.executable)
    for system, attempts in ((file, 2), (tmp_path / "none.toml", 3)):
        monkeypatch.setattr(cli, "SYSTEM_CONFIG", system)
        assert cli.main(["check"]) == 0
        assert tomllib.loads(capsys.readouterr().out)["proxy"]["attempts_max"] == attempts


def problems(outcome: Outcome) -> dict[str, str]:
    """What is wrong, by key."""
    assert (outcome.returncode, outcome.stdout) == (2, "")
    head, *lines = outcome.stderr.splitlines()
    assert head.startswith("ollamad: ")
    return {line.split()[0]: line for line in lines}


def settings(**values: object) -> list[str]:
    return [part for key, value in values.items() for part in ("--set", f"{key.replace('__', '.')}={value}")]


def test_files_that_serve_would_refuse_are_all_told_with_who_named_them_and_nothing_is_made(
    ollamad: Run, file: Path, tmp_path: Path
) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text("[keys.none]")
    keys.chmod(0o600)
    file.write_text(
        f"""
        [proxy]
        tls_certificate = "{tmp_path}/none.pem"
        tls_key = "{tmp_path}/none.key"
        [access]
        keys_file = "{keys}"
        [control]
        socket = "{keys}"
        [ollama]
        binary = "{tmp_path}/none"
        [status]
        listen = "192.0.2.1:11480"
        allow_unauthenticated = true
        """
    )
    before = sorted(tmp_path.rglob("*"))
    found = problems(ollamad("check", "--config", str(file)))
    assert list(found) == [
        "proxy.tls_certificate",
        "access.keys_file",
        "control.socket",
        "status.listen",
    ]
    assert f"({file}:3): is not there" in found["proxy.tls_certificate"]
    assert "holds no keys" in found["access.keys_file"]
    assert "is there and is no socket: remove it" in found["control.socket"]
    assert "can't be listened on: Cannot assign requested address" in found["status.listen"]
    assert sorted(tmp_path.rglob("*")) == before


def test_a_key_of_another_certificate_is_told(ollamad: Run, tmp_path: Path) -> None:
    one, two = make_pair(tmp_path, "one"), make_pair(tmp_path, "two")
    pair = settings(status__tls_certificate=one.certificate, status__tls_key=two.key)
    assert "mismatch" in problems(ollamad("check", *pair))["status.tls_certificate"]


def test_a_certificate_that_has_expired_is_a_warning_and_no_problem(ollamad: Run, tmp_path: Path) -> None:
    over = make_pair(tmp_path, "over", over=True)
    outcome = ollamad("check", *settings(proxy__tls_certificate=over.certificate, proxy__tls_key=over.key))
    assert outcome.returncode == 0
    assert outcome.stderr.startswith(f"ollamad: warning: proxy.tls_certificate = {over.certificate} (--set): clients")
    assert "has expired" in outcome.stderr


def test_a_file_of_keys_that_is_still_to_be_made_is_fine_and_one_that_cannot_be_is_a_warning(
    ollamad: Run, tmp_path: Path
) -> None:
    in_force(ollamad("check", *settings(access__keys_file=tmp_path / "later" / "keys.toml")))
    outcome = ollamad("check", *settings(access__keys_file="/proc/sys/kernel/keys.toml"))
    assert outcome.returncode == 0
    assert "warning: access.keys_file = /proc/sys/kernel/keys.toml (--set): no key can be created" in outcome.stderr


def test_a_control_socket_whose_folder_others_could_swap_or_nobody_can_make_is_told(
    ollamad: Run, tmp_path: Path
) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    swapped = problems(ollamad("check", *settings(control__socket=tmp_path / "open" / "control.sock")))
    assert "can be written by everybody, who could swap the socket" in swapped["control.socket"]
    unmade = problems(ollamad("check", *settings(control__socket="/proc/sys/kernel/x/control.sock")))
    assert "/proc/sys/kernel can't be written by this user" in unmade["control.socket"]
    in_force(ollamad("check", *settings(control__socket=tmp_path / "later" / "control.sock")))


def test_a_store_whose_blobs_are_another_users_is_told_with_what_to_type(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to be another user")
    store = tmp_path / "models"
    (store / "blobs").mkdir(parents=True, mode=0o700)
    store.chmod(0o777)
    script = (
        "import os; os.setgid(65534); os.setuid(65534)\n"
        "from ollamad.config import load, Setting\n"
        "from ollamad.errors import ConfigError\n"
        "try:\n"
        f"    load([Setting('models.path', {str(store)!r}, 'a test')], home='/tmp')\n"
        "except ConfigError as error:\n"
        "    print(error)\n"
    )
    for folder in (tmp_path, *tmp_path.parents):
        folder.chmod(folder.stat().st_mode | 0o011)
    told = subprocess.run(
        [sys.executable, "-c", f"import ollamad.config\n{script}"], capture_output=True, text=True, check=True
    ).stdout
    assert f"{store}/blobs can't be read and written by this user (uid 65534): chown -R 65534 {store}" in told


def test_the_services_configuration_is_looked_at_with_the_eyes_of_the_services_user(file: Path, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to become another user")
    secret = tmp_path / "secret"
    secret.mkdir(mode=0o700)
    script = (
        "import pwd, sys\n"
        "from pathlib import Path\n"
        "from ollamad.cli import check, main\n"
        f"main.SYSTEM_CONFIG = Path({str(file)!r})\n"
        "check.service_user = lambda: pwd.getpwnam('nobody')\n"
        f"sys.exit(main.main(['check', '--config', {str(file)!r}, *sys.argv[1:]]))\n"
    )
    for folder in (file, tmp_path, *tmp_path.parents):
        folder.chmod(folder.stat().st_mode | 0o055)

    def seen(*arguments: str) -> Outcome:
        command = [sys.executable, "-c", script, *arguments, *settings(ollama__binary=sys.executable)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    told = seen(*settings(models__path=secret, ollama__home=tmp_path))
    assert told.returncode == 2
    assert "looked at as nobody, the service's user" in told.stderr
    assert f"{secret} can't be read and written by this user (uid {pwd.getpwnam('nobody').pw_uid})" in told.stderr
