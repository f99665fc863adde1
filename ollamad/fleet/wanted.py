"""Models that the configuration asks for: `ensure` is pulled where it is missing, `preload` is loaded and kept."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from http import HTTPStatus
from typing import Final

import aiohttp
import structlog

from ollamad.config.schema import Models
from ollamad.errors import CapacityError, NoAnswer, OllamadError, Refusal
from ollamad.fleet.changes import Leases
from ollamad.fleet.models_view import WantedView
from ollamad.fleet.pulls import Options, Pull
from ollamad.ollama.names import Name, parse
from ollamad.routing.decide import Need, Request

log = structlog.get_logger()

FOR_EVER: Final = -1
JITTER: Final = 0.25


class Wanted:
    """Sees to these models until cancelled."""

    def __init__(
        self,
        models: Models,
        fleet: Leases,
        session: aiohttp.ClientSession,
        pull: Callable[[Name, Options], Pull],
        where: Callable[[str], Awaitable[frozenset[str]]],
    ) -> None:
        self._models = models
        self._fleet = fleet
        self._session = session
        self._pull = pull
        self._where = where
        self._ensure: dict[str, WantedView] = {}
        self._preload: dict[str, WantedView] = {}
        self._retry_s: dict[str, float] = {}
        """When what could not be pulled is tried again, on the monotonic clock, by model."""

    @property
    def ensure(self) -> tuple[WantedView, ...]:
        """How it stands with the models that must be there."""
        now_s = time.monotonic()
        return tuple(
            replace(view, retry_in_s=round(max(0.0, self._retry_s[view.model] - now_s), 1))
            if view.state == "retrying"
            else view
            for view in self._ensure.values()
        )

    @property
    def preload(self) -> tuple[WantedView, ...]:
        """How it stands with the models that must be loaded."""
        return tuple(self._preload.values())

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for text in dict.fromkeys(self._models.ensure):
                if name := _valid(text, self._ensure):
                    tasks.create_task(self._ensured(name), name=f"ensure {text}")
            for text in dict.fromkeys(self._models.preload):
                if name := _valid(text, self._preload):
                    tasks.create_task(self._kept(name), name=f"preload {text}")

    async def _ensured(self, name: Name) -> None:
        """Until it was there once; whoever deletes it afterwards means it."""
        wait_s = self._models.retry_initial_s
        while not await self._where(name.key):
            self._ensure[name.short] = WantedView(name.short, "pulling")
            reason = await self._pulled(name)
            if reason is None:
                break
            pause_s = wait_s * (1 + JITTER * random.random())  # noqa: S311 - no secret
            log.warning("ensured model not pulled", model=name.short, reason=reason, retry_in_s=round(pause_s, 1))
            self._retry_s[name.short] = time.monotonic() + pause_s
            self._ensure[name.short] = WantedView(name.short, "retrying", reason)
            await asyncio.sleep(pause_s)
            wait_s = min(wait_s * 2, self._models.retry_max_s)
        self._ensure[name.short] = WantedView(name.short, "there")

    async def _pulled(self, name: Name) -> str | None:
        """Why it could not be pulled; None when it was."""
        try:
            pull = self._pull(name, {})
            async with aclosing(pull.follow()) as records:
                async for record in records:
                    if record.error:
                        return record.error
        except OllamadError as error:
            return str(error)
        return None

    async def _kept(self, name: Name) -> None:
        told = None
        while True:
            comes = self._comes(name)
            state, reason = await self._loaded(name)
            if reason != told and not (state == "missing" and comes):
                told = reason
                if reason is not None:
                    log.warning("preloaded model not loaded", model=name.short, reason=reason)
            self._preload[name.short] = WantedView(name.short, state, reason)
            await asyncio.sleep(self._models.preload_interval_s)

    def _comes(self, name: Name) -> bool:
        """Whether it is being pulled, as `models.ensure` asks: that it is missing until then is no news."""
        ensured = self._ensure.get(name.short)
        asked = any(known.key == name.key for text in self._models.ensure if (known := parse(text)))
        return asked and (ensured is None or ensured.state != "there")

    async def _loaded(self, name: Name) -> tuple[str, str | None]:
        """What state it is in after this look, and why it is not loaded."""
        model = name.short.lower()
        if any(model == resident.model for child in self._fleet.snapshot().children for resident in child.residents):
            return "loaded", None
        if not await self._where(name.key):
            return "missing", "no child has it: pull it, or name it in models.ensure, too"
        self._preload[name.short] = WantedView(name.short, "loading")
        try:
            await self._load(name)
        except (Refusal, NoAnswer, CapacityError) as error:
            return "failing", str(error)
        return "loaded", None

    async def _load(self, name: Name) -> None:
        """Load it where routing wants it. Raises Refusal, NoAnswer, CapacityError."""
        async with self._fleet.lease(Request(Need.RUNNER, name.short.lower())) as lease:
            try:
                await self._ask(f"{lease.base_url}/api/generate", {"model": name.short, "stream": False})
            except Refusal as refusal:
                if refusal.status != HTTPStatus.BAD_REQUEST:
                    raise
                # One that only embeds can't generate, not even nothing.
                await self._ask(f"{lease.base_url}/api/embed", {"model": name.short, "input": ""})
            self._fleet.loaded(lease)

    async def _ask(self, url: str, request: dict[str, object]) -> None:
        try:
            async with self._session.post(url, json={**request, "keep_alive": FOR_EVER}) as answer:
                body = await answer.read()
                if answer.status >= HTTPStatus.BAD_REQUEST:
                    raise Refusal(answer.status, body)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise NoAnswer(str(error) or type(error).__name__) from error


def _valid(text: str, views: dict[str, WantedView]) -> Name | None:
    """The name that a text is; one that Ollama would refuse is told, and left out."""
    name = parse(text)
    if name is None:
        log.error("configured model has no valid name", model=text)
        views[text] = WantedView(text, "failing", "Ollama takes this for no valid name")
    return name
