"""Uploads of any size pass through without being held."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import psutil

from tests.support.daemon import Daemons

MIB = 1024**2
PIECE = bytes(range(256)) * 4096
PIECES = 2048


async def _pieces() -> AsyncIterator[bytes]:
    for _ in range(PIECES):
        yield PIECE


def _digest() -> str:
    digest = hashlib.sha256()
    for _ in range(PIECES):
        digest.update(PIECE)
    return f"sha256:{digest.hexdigest()}"


async def test_two_gib_to_a_real_child_grow_the_daemon_by_less_than_twenty_mib(
    daemons: Daemons, ollama_binary: Path
) -> None:
    digest = _digest()
    async with daemons.run(ollama_binary) as daemon, aiohttp.ClientSession(daemon.base_url) as session:
        await daemon.until_ready(2)
        async with session.post(f"/api/blobs/{digest}", data=PIECE) as refused:
            assert refused.status == 400, "this is not what the digest says; and it has warmed the daemon up"
        process = psutil.Process(daemon.process.pid)
        before = process.memory_info().rss
        peak = before

        async def watched() -> AsyncIterator[bytes]:
            nonlocal peak
            async for piece in _pieces():
                peak = max(peak, process.memory_info().rss)
                yield piece

        async with session.post(f"/api/blobs/{digest}", data=watched()) as made:
            assert made.status == 201, await made.text()
        async with session.head(f"/api/blobs/{digest}") as found:
            assert found.status == 200
        assert (peak - before) / MIB < 20, f"{before / MIB:.0f} MiB before, {peak / MIB:.0f} MiB at the peak"
        blob = daemon.folder / "models" / "blobs" / digest.replace(":", "-")
        assert blob.stat().st_size == len(PIECE) * PIECES
        blob.unlink()
