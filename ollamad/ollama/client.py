"""Questions that ollamad itself asks a child. None of them loads a model or disturbs one."""

from __future__ import annotations

from typing import TypeVar

import aiohttp
import msgspec

from ollamad.errors import NoAnswer
from ollamad.ollama.names import canonical
from ollamad.routing.snapshot import Resident

T = TypeVar("T")


class _Version(msgspec.Struct):
    version: str


class _Loaded(msgspec.Struct):
    """One entry of `/api/ps`; every field but the name is missing in some version."""

    name: str
    size: int | None = None
    size_vram: int | None = None
    expires_at: str | None = None


class _Ps(msgspec.Struct):
    models: list[_Loaded] | None = None


class ChildClient:
    """Asks one child, on loopback."""

    def __init__(self, session: aiohttp.ClientSession, base_url: str, timeout_s: float) -> None:
        self._session = session
        self._base_url = base_url
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)

    async def version(self) -> str:
        """`/api/version`: takes no lock, so it tells that the process serves, not that its scheduler works.

        Raises NoAnswer.
        """
        return (await self._ask("/api/version", _Version)).version

    async def residents(self) -> tuple[Resident, ...]:
        """`/api/ps`: what is loaded. Can block while a model unloads or a hung runner is pinged. Raises NoAnswer."""
        answer = await self._ask("/api/ps", _Ps)
        return tuple(
            Resident(canonical(model.name), model.size, model.size_vram, model.expires_at)
            for model in answer.models or ()
        )

    async def _ask(self, path: str, kind: type[T]) -> T:
        try:
            async with self._session.get(self._base_url + path, timeout=self._timeout) as answer:
                answer.raise_for_status()
                return msgspec.json.decode(await answer.read(), type=kind)
        except (aiohttp.ClientError, TimeoutError, OSError, msgspec.DecodeError) as error:
            raise NoAnswer(f"{path}: {str(error) or type(error).__name__}") from error
