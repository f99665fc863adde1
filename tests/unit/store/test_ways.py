"""How blobs come into a store: one way after another, and one that ollamad does not know."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ollamad.errors import StoreError
from ollamad.store import files
from ollamad.store.files import place_blob
from ollamad.store.ways import WAYS, Bring, Effort, Way, linked, reflinked
from tests.support.btrfs import btrfs
from tests.support.stores import put_blob

BLOB = b"weights"


def by_symlink(origin: Path, fresh: Path, _size: int, _effort: Effort, /) -> bool:
    """A way as small as one can be."""
    fresh.symlink_to(origin)
    return True


@pytest.fixture
def stores(tmp_path: Path) -> tuple[Path, Path]:
    source, target = tmp_path / "a", tmp_path / "b"
    files.make_folders(source)
    files.make_folders(target)
    return source, target


def test_one_more_way_is_taken_where_it_leads_and_is_told(
    stores: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = stores
    foreign: Bring = by_symlink  # what mypy holds it to
    monkeypatch.setattr(files, "WAYS", ((Way.REFLINKED, foreign), *WAYS))
    digest = put_blob(source, BLOB)
    assert place_blob(source, target, digest, len(BLOB), Effort()) is Way.REFLINKED
    assert (target / "blobs" / f"sha256-{digest}").is_symlink()


@pytest.mark.parametrize("bring", [linked, reflinked])
def test_a_way_that_does_not_lead_there_leaves_nothing(
    bring: Bring, stores: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr("fcntl.ioctl", refuse)
    source, target = stores
    origin = source / "blobs" / f"sha256-{put_blob(source, BLOB)}"
    fresh = target / "fresh"
    assert not bring(origin, fresh, len(BLOB), Effort())
    assert not fresh.exists()


def test_a_copy_that_was_stopped_says_that_it_goes_on_later(
    stores: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = stores
    monkeypatch.setattr(files, "WAYS", WAYS[-1:])
    effort = Effort()
    effort.stopped.set()
    with pytest.raises(StoreError, match="goes on at its next start"):
        place_blob(source, target, put_blob(source, BLOB), len(BLOB), effort)
    assert not list((target / ".ollamad").iterdir())


def used_bytes(folder: Path) -> int:
    os.sync()
    found = os.statvfs(folder)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


def test_where_no_link_leads_but_extents_can_be_shared_no_bytes_are_copied_and_no_change_is_shared(
    tmp_path: Path,
) -> None:
    """On a real btrfs: between two of its subvolumes link(2) says EXDEV, and FICLONE works."""
    blob = os.urandom(32 * 1024**2)
    with btrfs(tmp_path, "a", "b") as disk:
        source, target = disk / "a", disk / "b"
        for store in (source, target):
            files.make_folders(store)
        digest = put_blob(source, blob)
        before = used_bytes(disk)
        effort = Effort()
        assert place_blob(source, target, digest, len(blob), effort) is Way.REFLINKED
        assert (effort.copied_bytes, used_bytes(disk) - before < len(blob) // 8) == (0, True)
        origin, copy = (store / "blobs" / f"sha256-{digest}" for store in (source, target))
        assert copy.read_bytes() == blob
        assert copy.stat().st_ino != origin.stat().st_ino or copy.stat().st_dev != origin.stat().st_dev
        copy.write_bytes(b"changed")
        assert origin.read_bytes() == blob


def test_from_another_disk_a_blob_is_copied_onto_one_that_could_share_extents(
    stores: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ollamad.store.ways.FREE_BYTES", 0)
    source, _ = stores
    digest = put_blob(source, BLOB)
    with btrfs(tmp_path, "b") as disk:
        files.make_folders(disk / "b")
        effort = Effort()
        assert place_blob(source, disk / "b", digest, len(BLOB), effort) is Way.COPIED
        assert effort.copied_bytes == len(BLOB)
