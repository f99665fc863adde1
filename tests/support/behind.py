"""What the Ollamas behind a daemon have, each asked by itself."""

from __future__ import annotations

from typing import Any

import aiohttp

from tests.support.daemon import Daemon


async def addresses(daemon: Daemon) -> list[str]:
    """Each child's own address."""
    return [f"http://127.0.0.1:{child['port']}" for child in (await daemon.status())["children"]]


async def on_each(daemon: Daemon, path: str) -> list[set[str]]:
    """For each child, the names that it lists at `/api/tags` or `/api/ps`."""
    found = []
    async with aiohttp.ClientSession() as session:
        for address in await addresses(daemon):
            async with session.get(address + path) as answer:
                found.append({model["name"] for model in (await answer.json())["models"]})
    return found


async def load_on_each(daemon: Daemon, model: str) -> None:
    """Have every child load a model, past the daemon."""
    request: dict[str, Any] = {"model": model}
    async with aiohttp.ClientSession() as session:
        for address in await addresses(daemon):
            async with session.post(f"{address}/api/generate", json=request) as answer:
                assert (await answer.json())["done_reason"] == "load"
