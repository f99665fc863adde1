"""A disk that is nearly full: told once, and again when it is not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from ollamad.errors import StoreError
from ollamad.fleet import room
from ollamad.fleet.notices import Notices
from ollamad.fleet.room import Room
from ollamad.fleet.workers import Workers
from ollamad.store.room import Disk


@pytest.fixture
def workers() -> Iterator[Workers]:
    found = Workers(1)
    yield found
    found.close()


async def test_it_is_told_once_refuses_changes_and_is_told_again_when_there_is_room(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    notices, free_bytes = Notices(), 10
    monkeypatch.setattr(room, "disks", lambda roots: tuple(Disk(root, free_bytes) for root in roots))
    found = Room(workers, lambda: [Path("/models")], 10, notices)
    with capture_logs() as logs:
        await found.need()
        free_bytes = 9
        for _ in range(2):
            with pytest.raises(StoreError, match=r"the disk of /models is nearly full.*`ollamactl prune --now`"):
                await found.need()
        told = [notices.texts]
        free_bytes = 10
        await found.need()
        told.append(notices.texts)
    assert [len(texts) for texts in told] == [1, 0]
    assert [entry["event"] for entry in logs] == ["disk nearly full", "disk has room again"]
