"""Questions that ollamad itself asks a child. None of them loads a model or disturbs one."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
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


class _Details(msgspec.Struct):
    family: str | None = None


class _Listed(msgspec.Struct):
    """One entry of `/api/tags`."""

    name: str
    size: int = 0
    details: _Details | None = None


class _Tags(msgspec.Struct):
    models: list[_Listed] | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """A model in the store."""

    model: str
    size_bytes: int
    family: str | None


@dataclass(frozen=True, slots=True)
class LoadAnswer:
    """What a child says to a load."""

    status: int
    text: str

    @property
    def loaded(self) -> bool:
        """It is in."""
        return self.status < HTTPStatus.BAD_REQUEST

    @property
    def refused(self) -> bool:
        """The request is at fault, not the child: there is no such model, or it can't be loaded in this way."""
        return HTTPStatus.BAD_REQUEST <= self.status < HTTPStatus.INTERNAL_SERVER_ERROR


class _Shown(msgspec.Struct):
    modelfile: str = ""


class _Done(msgspec.Struct):
    """An answer of which only its coming matters."""


UNTIMED: Final = aiohttp.ClientTimeout(total=None)
"""For every request whose time is `asyncio.timeout`'s. aiohttp's own timer (3.14) loses a cancellation that comes in
the same turn of the loop: each of its nested contexts takes one back, though it made but one. A dead child's watch did
not end then, and the child was never replaced."""
_SAID_MAX_BYTES: Final = 4096
_WEIGHTS: Final = re.compile(r"^FROM \S*sha256[-:]([0-9a-f]{64})\s*$", re.MULTILINE)


class ChildClient:
    """Asks one child, on loopback."""

    def __init__(self, session: aiohttp.ClientSession, base_url: str, timeout_s: float) -> None:
        self._session = session
        self._base_url = base_url
        self._timeout_s = timeout_s

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

    async def catalogue(self) -> tuple[Stored, ...]:
        """`/api/tags`: what the store has. Raises NoAnswer."""
        answer = await self._ask("/api/tags", _Tags)
        return tuple(
            Stored(canonical(listed.name), listed.size, listed.details.family if listed.details else None)
            for listed in answer.models or ()
        )

    async def bring_in(
        self, model: str, options: Mapping[str, object], *, embeds: bool, keep_alive: int | str | None = None
    ) -> LoadAnswer:
        """Load a model for as long as that takes: with these options, as a request that has them would.

        An embedding model can't be asked to generate, so where embeddings are wanted those are what is asked for, of
        no text. `keep_alive` in seconds, -1 for ever, or as Ollama takes it; None leaves it. Raises NoAnswer where the
        connection fails; breaking this off breaks the load off.
        """
        body: dict[str, object] = {"model": model, "stream": False}
        if options:
            body["options"] = dict(options)
        if keep_alive is not None:
            body["keep_alive"] = keep_alive
        path = "/api/embed" if embeds else "/api/generate"
        patience = aiohttp.ClientTimeout(total=None, sock_connect=self._timeout_s)
        try:
            async with self._session.post(self._base_url + path, json=body, timeout=patience) as answer:
                text = (await answer.content.read(_SAID_MAX_BYTES)).decode(errors="replace")
                return LoadAnswer(answer.status, text)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise NoAnswer(f"{path}: {str(error) or type(error).__name__}") from error

    async def let_go(self, model: str) -> None:
        """Unload a model once nothing uses it; the answer comes before that is done. Raises NoAnswer."""
        await self._ask("/api/generate", _Done, {"model": model, "keep_alive": 0, "stream": False})

    async def _ask(self, path: str, kind: type[T], body: dict[str, object] | None = None) -> T:
        method = "GET" if body is None else "POST"
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                self._session.request(method, self._base_url + path, json=body, timeout=UNTIMED) as answer,
            ):
                answer.raise_for_status()
                return msgspec.json.decode(await answer.read(), type=kind)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, RecursionError) as error:  # or no JSON
            raise NoAnswer(f"{path}: {str(error) or type(error).__name__}") from error


def _on_our_clock(expires_at: str | None) -> float | None:
    """A wall-clock time of Ollama's on the monotonic clock; None where it is none. For ever is in the year 2318."""
    try:
        left_s = (datetime.fromisoformat(expires_at or "") - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):  # no time, or one without a zone
        return None
    return time.monotonic() + left_s
