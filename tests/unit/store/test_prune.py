from __future__ import annotations

import os
from pathlib import Path

import pytest

from ollamad.errors import StoreError
from ollamad.store.prune import disk_bytes, find_waste, remove_waste
from tests.support.stores import digest_of, files, manifest_path, put_blob, put_model

NOW_S = 2_000_000_000.0
OLD_S = NOW_S - 7200.0
HEX = "ab" * 32


def age(root: Path, modified_s: float = OLD_S) -> None:
    for path in (root / "blobs").iterdir():
        os.utime(path, (modified_s, modified_s))


def names(root: Path, grace_s: float = 3600.0) -> set[str]:
    return {waste.path.name for waste in find_waste(root, NOW_S) if waste.age_s >= grace_s}


def test_what_no_model_needs_goes_and_what_one_needs_stays(tmp_path: Path) -> None:
    put_model(tmp_path, "m", b"config", b"weights")
    unneeded = put_blob(tmp_path, b"left")
    for name in (f"sha256-{HEX}-partial", f"sha256-{HEX}-partial-0", "sha256-12345"):
        (tmp_path / "blobs" / name).write_bytes(b"half")
    (tmp_path / "blobs" / "README").write_bytes(b"not ours")
    age(tmp_path)
    found = find_waste(tmp_path, NOW_S)
    assert {waste.path.name: waste.partial for waste in found} == {
        f"sha256-{unneeded}": False,
        f"sha256-{HEX}-partial": True,
        f"sha256-{HEX}-partial-0": True,
        "sha256-12345": True,
    }
    remove_waste(found)
    assert set(files(tmp_path)) == {
        "manifests/registry.ollama.ai/library/m/latest",
        f"blobs/sha256-{digest_of(b'config')}",
        f"blobs/sha256-{digest_of(b'weights')}",
        "blobs/README",
    }


def test_a_dry_run_lists_and_takes_nothing(tmp_path: Path) -> None:
    put_blob(tmp_path, b"left")
    age(tmp_path)
    before = files(tmp_path)
    assert len(find_waste(tmp_path, NOW_S)) == 1
    assert files(tmp_path) == before


def test_what_is_young_is_spared_and_a_download_is_as_young_as_its_youngest_part(tmp_path: Path) -> None:
    put_blob(tmp_path, b"upload")
    for name in (f"sha256-{HEX}-partial", f"sha256-{HEX}-partial-0"):
        (tmp_path / "blobs" / name).write_bytes(b"half")
    age(tmp_path)
    assert len(names(tmp_path)) == 3
    os.utime(tmp_path / "blobs" / f"sha256-{HEX}-partial", (NOW_S, NOW_S))
    assert len(names(tmp_path)) == 1
    assert len(names(tmp_path, grace_s=0.0)) == 3


def test_where_a_manifest_can_t_be_read_nothing_is_known_to_be_unneeded(tmp_path: Path) -> None:
    put_model(tmp_path, "m", b"config")
    manifest_path(tmp_path, "m").write_bytes(b"{")
    with pytest.raises(StoreError, match=r"nothing is pruned: the manifest .*/m/latest is no manifest"):
        find_waste(tmp_path, NOW_S)


def test_bytes_are_those_on_the_disk_and_links_count_once(tmp_path: Path) -> None:
    for root in (tmp_path / "a", tmp_path / "b"):
        (root / "blobs").mkdir(parents=True)
    sparse = tmp_path / "a" / "blobs" / f"sha256-{HEX}-partial"
    with sparse.open("wb") as file:
        file.truncate(1 << 30)
    full = tmp_path / "a" / "blobs" / f"sha256-{HEX}"
    full.write_bytes(b"x" * 8192)
    os.link(full, tmp_path / "b" / "blobs" / full.name)
    found = [waste for root in (tmp_path / "a", tmp_path / "b") for waste in find_waste(root, NOW_S)]
    assert len(found) == 3
    assert disk_bytes(found) == full.stat().st_blocks * 512


def test_a_store_that_was_never_used_has_no_waste(tmp_path: Path) -> None:
    assert find_waste(tmp_path / "none", NOW_S) == ()
