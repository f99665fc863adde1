from __future__ import annotations

from pathlib import Path

import pytest

from ollamad.errors import StartError
from ollamad.ollama.program import find_program


def program(path: Path, mode: int = 0o755) -> Path:
    path.write_text("#!/bin/sh\n")
    path.chmod(mode)
    return path


def test_a_path_is_the_program_itself(tmp_path: Path) -> None:
    ollama = program(tmp_path / "mine")
    assert find_program(str(ollama), None) == ollama


def test_a_path_from_here_or_home_becomes_one_from_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ollama = program(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_program("./mine", None) == find_program("~/mine", None) == ollama


def test_a_name_is_looked_up_on_the_path_that_is_given(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        program(tmp_path / name / "ollama")
    assert find_program("ollama", f"{tmp_path}/none:{tmp_path}/b:{tmp_path}/a") == tmp_path / "b" / "ollama"


def test_a_relative_entry_of_the_path_gives_a_path_from_the_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    ollama = program(tmp_path / "bin" / "ollama")
    monkeypatch.chdir(tmp_path)
    assert find_program("ollama", "bin") == ollama


@pytest.mark.parametrize("setting", ["{}/none", "{}/text", "{}", "~nobody-of-this-name/ollama"])
def test_a_path_that_cannot_be_run_is_refused_by_its_name_with_the_key(tmp_path: Path, setting: str) -> None:
    program(tmp_path / "text", mode=0o644)
    wanted = setting.format(tmp_path)
    with pytest.raises(StartError, match=r"is no program that can be run; set \[ollama\] binary") as caught:
        find_program(wanted, None)
    assert str(caught.value).startswith(f"{wanted} ")


def test_a_name_that_is_not_on_the_path_is_refused_with_what_to_do(tmp_path: Path) -> None:
    program(tmp_path / "ollama", mode=0o644)
    (tmp_path / "x").mkdir()
    with pytest.raises(StartError, match=r"no program 'ollama' on PATH; install Ollama, or set \[ollama\] binary"):
        find_program("ollama", str(tmp_path))
    with pytest.raises(StartError, match=r"no program 'x' on PATH"):
        find_program("x", str(tmp_path))
