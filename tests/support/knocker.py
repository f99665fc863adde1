"""Knocks at a door again and again, each time on a new connection: prints each answer's status, or the error."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress

import aiohttp


async def _knock(url: str) -> str:
    timeout = aiohttp.ClientTimeout(total=60)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as answer:
            await answer.read()
            return str(answer.status)
    except (aiohttp.ClientError, TimeoutError) as error:
        return f"{type(error).__name__}: {error}"


async def _until_told(url: str) -> None:
    """One after the other, until standard input is closed."""
    told = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    while not told.done():
        print(await _knock(url), flush=True)  # noqa: T201 - for who started it
    with suppress(asyncio.CancelledError):
        await told


async def _at_once(url: str, count: int) -> None:
    print("\n".join(await asyncio.gather(*(_knock(url) for _ in range(count)))), flush=True)  # noqa: T201


if __name__ == "__main__":
    url, count = sys.argv[1], int(sys.argv[2])
    asyncio.run(_at_once(url, count) if count else _until_told(url))
