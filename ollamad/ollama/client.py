"""Questions that ollamad itself asks a child. None of them loads a model or disturbs one."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import Final, TypeVar

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


class _Shown(msgspec.Struct):
    modelfile: str = ""


class _Done(msgspec.Struct):
    """An answer of which only its coming matters."""


_WEIGHTS: Final = re.compile(r"^FROM \S*sha256[-:]([0-9a-f]{64})\s*$", re.MULTILINE)


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
            Resident(
                canonical(model.name), model.size, model.size_vram, model.expires_at, _on_our_clock(model.expires_at)
            )
            for model in answer.models or ()
        )

    async def weights_of(self, model: str) -> str | None:
        """The digest of a model's weights, which a runner has among its arguments. Reads the store only.

        None where the answer does not have it. Raises NoAnswer.
        """
        shown = await self._ask("/api/show", _Shown, {"model": model, "name": model})
        found = _WEIGHTS.search(shown.modelfile)
        return found[1] if found else None

    async def load(self, model: str) -> None:
        """Load a model without asking it anything. Raises NoAnswer, also where it can't be loaded so (embeddings)."""
        await self._ask("/api/generate", _Done, {"model": model, "stream": False})

    async def _ask(self, path: str, kind: type[T], body: dict[str, object] | None = None) -> T:
        method = "GET" if body is None else "POST"
        try:
            async with self._session.request(method, self._base_url + path, json=body, timeout=self._timeout) as answer:
                answer.raise_for_status()
                return msgspec.json.decode(await answer.read(), type=kind)
        except (aiohttp.ClientError, TimeoutError, OSError, msgspec.DecodeError) as error:
            raise NoAnswer(f"{path}: {str(error) or type(error).__name__}") from error


def _on_our_clock(expires_at: str | None) -> float | None:
    """A wall-clock time of Ollama's on the monotonic clock; None where it is none, or none for ever (year 2318)."""
    try:
        left_s = (datetime.fromisoformat(expires_at or "") - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):  # no time, or one without a zone
        return None
    return time.monotonic() + left_s
