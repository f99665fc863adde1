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
