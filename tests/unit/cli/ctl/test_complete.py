"""Completion: what fits at the end of a line, and that real shells can use it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from ollamad.cli.ctl.complete import SCRIPTS, candidates, complete, live_names


def names(kind: str, _socket: Path | None) -> Sequence[str]:
    return {
        "children": ["gpu0", "gpu1"],
        "models": ["llama3.2:3b", "qwen3:8b"],
        "operations": ["restart-1a"],
        "keys": ["chat"],
    }[kind]


def words(line: str) -> list[str]:
    return [one.word for one in candidates(line, names)]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("ollamactl re", ["requests", "restart", "reset", "reload"]),
        ("ollamactl --json un", ["undrain", "unload"]),
        ("ollamactl drain ", ["gpu0", "gpu1"]),
        ("ollamactl drain --wait gpu", ["gpu0", "gpu1"]),
        ("ollamactl drain gpu0 ", []),
        ("ollamactl restart --r", ["--rolling"]),
        ("ollamactl load q", ["qwen3:8b"]),
        ("ollamactl load llama3.2:", ["llama3.2:3b"]),
        ("ollamactl load qwen3:8b --child ", ["gpu0", "gpu1"]),
        ("ollamactl load --child gpu0 ", ["llama3.2:3b", "qwen3:8b"]),
        ("ollamactl load --replicas ", []),
        ("ollamactl operations r", ["restart-1a"]),
        ("ollamactl completion ", ["bash", "zsh", "fish"]),
        ("ollamactl key ", ["create", "list", "revoke"]),
        ("ollamactl key create x --scope ", ["infer", "read", "manage", "status"]),
        ("ollamactl key create x --model q", ["qwen3:8b"]),
        ("ollamactl key revoke ", ["chat"]),
        ("ollamactl demo h", ["hang", "heal"]),
        ("ollamactl demo kill gpu", ["gpu0", "gpu1"]),
        ("ollamactl demo fill gpu0 ", []),
        ("ollamactl demo traffic ", []),
        ("ollamactl nonsense ", []),
        ("ollamactl status x", []),
        ("ollamactl --so", ["--socket"]),
    ],
)
def test_what_fits(line: str, found: list[str]) -> None:
    assert words(line) == found


def test_names_are_asked_of_the_socket_that_was_typed() -> None:
    asked: list[tuple[str, Path | None]] = []

    def ask(kind: str, socket: Path | None) -> Sequence[str]:
        asked.append((kind, socket))
        return ["gpu1"]

    assert [one.word for one in candidates("ollamactl --socket /a/b drain g", ask)] == ["gpu1"]
    assert asked == [("children", Path("/a/b"))]


def test_paths_are_completed(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    assert words(f"ollamactl --socket {tmp_path}/f") == [f"{tmp_path}/file", f"{tmp_path}/folder/"]


def test_no_daemon_no_names_and_no_noise(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert live_names("children", tmp_path / "none") == ()
    assert complete(["bash", f"ollamactl --socket {tmp_path}/none drain "]) == 0
    assert capfd.readouterr() == ("", "")


def test_bash_is_given_what_comes_after_the_last_colon(capfd: pytest.CaptureFixture[str]) -> None:
    assert complete(["bash", "ollamactl load llama3.2:"], names) == 0
    assert capfd.readouterr().out == "3b\n"
    assert complete(["zsh", "ollamactl load llama3.2:"], names) == 0
    assert capfd.readouterr().out == "llama3.2:3b\n"


@pytest.fixture
def on_path(tmp_path: Path) -> str:
    """A PATH with `ollamactl` on it."""
    program = tmp_path / "bin" / "ollamactl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ollamad.cli.ctl.main "$@"\n')
    program.chmod(0o755)
    return f"{program.parent}:{os.environ['PATH']}"


def shell(arguments: list[str], script: str, path: str) -> list[str]:
    if shutil.which(arguments[0]) is None:
        pytest.skip(f"there is no {arguments[0]} here")
    done = subprocess.run(
        [*arguments, script],
        env={"PATH": path, "PYTHONPATH": ":".join(sys.path), "HOME": "/nonexistent", "TERM": "dumb"},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return done.stdout.split()


def test_bash_completes(on_path: str) -> None:
    script = f"""{SCRIPTS["bash"]}
COMP_LINE='ollamactl re'; COMP_POINT=12; COMP_WORDS=(ollamactl re); COMP_CWORD=1
_ollamactl
printf '%s\\n' "${{COMPREPLY[@]}}"
complete -p ollamactl >/dev/null
"""
    assert shell(["bash", "-c"], script, on_path) == ["requests", "restart", "reset", "reload"]


def test_zsh_completes(on_path: str) -> None:
    script = f"""
compdef() {{ : }}
compadd() {{ shift; print -l -- "${{(@P)1}}" }}
{SCRIPTS["zsh"]}
words=(ollamactl re); CURRENT=2
_ollamactl
"""
    assert shell(["zsh", "-f", "-c"], script, on_path) == ["requests", "restart", "reset", "reload"]


def test_fish_completes(on_path: str) -> None:
    found = shell(["fish", "--no-config", "-c"], f"{SCRIPTS['fish']}\ncomplete -C 'ollamactl undr'", on_path)
    assert found[0] == "undrain"
