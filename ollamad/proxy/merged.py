"""`GET /api/ps` over all children: what any of them has loaded, each entry saying whose it is."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final

import aiohttp
import msgspec
import structlog

from ollamad.routing.snapshot import ChildView

log = structlog.get_logger()

CHILD_FIELD: Final = "child"
"""The one field that ollamad adds to Ollama's own."""


class _Ps(msgspec.Struct):
    models: list[dict[str, Any]] | None = None


async def loaded_everywhere(
    session: aiohttp.ClientSession, children: Iterable[ChildView], timeout_s: float
) -> dict[str, list[dict[str, Any]]]:
    """The children's answers as one. A child that does not answer in time is left out, and said in the log."""
    async with asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(_loaded(session, child, timeout_s)) for child in children if child.routable]
    return {"models": [model for answer in asked for model in answer.result()]}


async def _loaded(session: aiohttp.ClientSession, child: ChildView, timeout_s: float) -> list[dict[str, Any]]:
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    try:
        async with session.get(f"http://127.0.0.1:{child.port}/api/ps", timeout=timeout) as answer:
            answer.raise_for_status()
            models = msgspec.json.decode(await answer.read(), type=_Ps).models or []
    except (aiohttp.ClientError, OSError, TimeoutError, msgspec.DecodeError) as error:
        log.warning("child left out of ps", child=child.id, reason=str(error) or type(error).__name__)
        return []
    return [{**model, CHILD_FIELD: child.id} for model in models]
