"""The file of keys: what it holds, who may open it, and that it is whole or as it was."""

from __future__ import annotations

import errno
import os
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamad.access.file import read_keys, signature, write_keys
from ollamad.access.key import ENTROPY_BYTES, Grant, Key, Scope, mint
from ollamad.errors import ConfigError, OperationFailed

NOW = datetime(2026, 11, 24, tzinfo=UTC)
PATTERNS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=9)
GRANTS = st.builds(
    Grant,
    name=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,20}", fullmatch=True),
    scopes=st.lists(st.sampled_from(Scope), min_size=1, max_size=4).map(tuple),
    models=st.lists(PATTERNS, min_size=1, max_size=3).map(tuple),
    priority=st.sampled_from(["high", "normal", "low"]),
    requests_per_minute=st.integers(0, 1000),
    expires=st.none() | st.datetimes(timezones=st.just(UTC)),
)


def some(**granted: object) -> dict[str, Key]:
    key_id, _, key = mint(Grant(name="a", **granted), b"x" * ENTROPY_BYTES, NOW)  # type: ignore[arg-type]
    return {key_id: key}


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        read_keys(path)
    (problem,) = caught.value.problems
    assert (problem.key, problem.value) == ("access.keys_file", str(path))
    return problem.message


@given(GRANTS)
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, grant: Grant) -> None:
    path = tmp_path_factory.mktemp("keys") / "keys.toml"
    key_id, secret, key = mint(grant, b"y" * ENTROPY_BYTES, NOW)
    write_keys(path, {key_id: key})
    assert read_keys(path) == {key_id: key}
    assert secret.rpartition("_")[2] not in path.read_text()


def test_no_file_is_no_keys(tmp_path: Path) -> None:
    assert read_keys(tmp_path / "none") == {}
    assert signature(tmp_path / "none") == ()


def test_it_is_its_owner_s_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_keys(tmp_path / "new" / "keys.toml", some())
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new" / "keys.toml").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o622, 0o610, 0o777])
def test_one_that_others_can_open_is_refused_with_what_to_type(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "keys.toml"
    write_keys(path, some())
    path.chmod(mode)
    assert refusal(path) == f"is open to others (mode {mode:04o}): chmod 600 {path}"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_one_of_another_user_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    write_keys(path, some())
    os.chown(path, 4242, 4242)
    assert refusal(path) == f"belongs to another user (uid 4242): chown 0 {path}"


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path).startswith("can't be read: Is a directory")
    os.mkfifo(tmp_path / "pipe", 0o600)
    assert refusal(tmp_path / "pipe") == "is not a file"


@pytest.mark.parametrize(
    "text",
    [
        "[keys",
        "\udcff",
        "keys = 1",
        "[keys.aaaaaaaa]\nname = 'a'",
        f"[keys.aaaaaaaa]\nname = 'a'\nsha256 = '{'0' * 63}'\ncreated = 2026-01-01T00:00:00Z",
        f"[keys.AAAA]\nname = 'a'\nsha256 = '{'0' * 64}'\ncreated = 2026-01-01T00:00:00Z",
        f"[keys.aaaaaaaa]\nname = 'a'\nsha256 = '{'0' * 64}'\ncreated = 2026-01-01T00:00:00Z\nscope = 'infer'",
        "[other]",
    ],
)
def test_what_holds_no_keys_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys.toml"
    path.write_bytes(text.encode(errors="surrogateescape"))
    path.chmod(0o600)
    assert refusal(path).startswith("holds no keys: ")


def test_one_that_can_not_be_written_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    write_keys(path, some())
    (tmp_path / f".keys.toml.{os.getpid()}").mkdir()
    with pytest.raises(OperationFailed, match="no key has changed"):
        write_keys(path, {})
    assert read_keys(path) == some()


def test_on_a_full_disk_nothing_half_written_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OperationFailed, match="No space left on device; no key has changed"):
        write_keys(tmp_path / "keys.toml", some())
    assert list(tmp_path.iterdir()) == []


def test_a_change_shows_in_its_signature(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    write_keys(path, some())
    seen = [signature(path)]
    write_keys(path, some())
    seen.append(signature(path))
    path.chmod(0o644)
    seen.append(signature(path))
    assert len(set(seen)) == 3
