"""Whether the stores have room for a change.

Ollama writes manifests in place, and keeps what a broken off download has left: on a full disk it cuts off the model
that it was about to replace, and stays full. So nothing is begun on a disk that is nearly full, and that is told before
it matters.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import structlog

from ollamad.errors import StoreError
from ollamad.fleet.notices import DISK, Notices
from ollamad.fleet.workers import Workers
from ollamad.store.room import Disk, disks

log = structlog.get_logger()

LOOK_S: Final = 10.0


class Room:
    """Looks at the disks of all stores, now and then and before each change."""

    def __init__(
        self, workers: Workers, roots: Callable[[], Sequence[Path]], free_min_bytes: int, notices: Notices
    ) -> None:
        self._workers = workers
        self._roots = roots
        self._free_min_bytes = free_min_bytes
        self._notices = notices
        self._full: frozenset[Path] = frozenset()

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self._look()
            await asyncio.sleep(LOOK_S)

    async def need(self) -> None:
        """Raises StoreError where a change had better not begin."""
        if text := await self._look():
            raise StoreError(text)

    async def _look(self) -> str | None:
        full = [disk for disk in await self._workers.do(disks, self._roots()) if disk.free_bytes < self._free_min_bytes]
        roots = frozenset(disk.root for disk in full)
        for disk in full:
            if disk.root not in self._full:
                log.warning("disk nearly full", store=str(disk.root), free_bytes=disk.free_bytes)
        for root in self._full - roots:
            log.info("disk has room again", store=str(root))
        self._full = roots
        text = self._told(full)
        self._notices.tell(DISK, text)
        return text

    def _told(self, full: Sequence[Disk]) -> str | None:
        if not full:
            return None
        return (
            f"the disk of {', '.join(str(disk.root) for disk in full)} is nearly full, with less than"
            f" models.disk_free_min_bytes = {self._free_min_bytes}: no model is pulled, made, copied or uploaded until"
            " there is room; `ollamactl prune --now` deletes what broken off pulls have left, `ollamactl rm` models"
        )
