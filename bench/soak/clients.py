"""Clients that never tire: each answer is checked to the token, and how it ended is taken down."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp

from bench.soak.fleets import Fleet
from tests.support.reciting import recitation

TOKENS_MAX: Final = 120
KEPT: Final = 20
"""Violations that are told in full."""


@dataclass(slots=True)
class Seen:
    """How requests ended."""

    ends: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    broken: int = 0
    open: int = 0
    """Requests that are out now."""

    def violated(self, what: str) -> None:
        """Something that must never be."""
        self.broken += 1
        if len(self.violations) < KEPT:
            self.violations.append(what)


class Clients:
    """All clients of one fleet."""

    def __init__(self, fleet: Fleet, seed: int) -> None:
        self._fleet = fleet
        self._luck = random.Random(seed)
        self.seen = Seen()

    async def run(self, stop: asyncio.Event) -> None:
        """Ask until `stop`; what is out then is waited for."""
        no_limit = aiohttp.ClientTimeout(total=None)
        async with (
            aiohttp.ClientSession(self._fleet.daemon.base_url, timeout=no_limit) as session,
            asyncio.TaskGroup() as tasks,
        ):
            for _ in range(self._fleet.clients):
                tasks.create_task(self._one(session, stop))

    async def burst(self, count: int) -> None:
        """So many at once."""
        async with aiohttp.ClientSession(self._fleet.daemon.base_url) as session, asyncio.TaskGroup() as tasks:
            for _ in range(count):
                tasks.create_task(self._ask(session, self._generate))

    async def _one(self, session: aiohttp.ClientSession, stop: asyncio.Event) -> None:
        ways = (self._generate, self._generate, self._whole_chat, self._openai, self._leave, self._list)
        while not stop.is_set():
            await self._ask(session, self._luck.choice(ways))

    async def _ask(self, session: aiohttp.ClientSession, way: Any) -> None:
        self.seen.open += 1
        try:
            self.seen.ends[await way(session)] += 1
        except aiohttp.ClientError as error:  # what ollamad must never do to a client
            self.seen.violated(f"{way.__name__}: {error!r}")
        finally:
            self.seen.open -= 1

    def _request(self) -> tuple[str, int]:
        return self._luck.choice(list(self._fleet.words)), self._luck.randint(1, TOKENS_MAX)

    async def _good(self, answer: aiohttp.ClientResponse) -> bool:
        if answer.status == 200:
            return True
        self.seen.violated(f"{answer.url.path}: {answer.status} {(await answer.text())[:200]}")
        return False

    async def _generate(self, session: aiohttp.ClientSession) -> str:
        model, tokens = self._request()
        body = {"model": model, "prompt": "go", "options": {"num_predict": tokens}}
        async with session.post("/api/generate", json=body) as answer:
            if not await self._good(answer):
                return "lost"
            records = [json.loads(line) async for line in answer.content]
        text = "".join(record.get("response", "") for record in records)
        return self._judged(
            model, tokens, text, records[-1], whole=bool(records[-1].get("done")), told="error" in records[-1]
        )

    async def _openai(self, session: aiohttp.ClientSession) -> str:
        model, tokens = self._request()
        messages = [{"role": "user", "content": "go"}]
        body = {"model": model, "messages": messages, "max_tokens": tokens, "stream": True}
        async with session.post("/v1/chat/completions", json=body) as answer:
            if not await self._good(answer):
                return "lost"
            lines = [line[6:].strip() async for line in answer.content if line.startswith(b"data: ")]
        whole = lines[-1] == b"[DONE]"
        events = [json.loads(line) for line in lines if line != b"[DONE]"]
        text = "".join(
            choice["delta"].get("content") or "" for event in events for choice in event.get("choices") or ()
        )
        return self._judged(model, tokens, text, lines[-1], whole=whole, told="error" in events[-1])

    async def _whole_chat(self, session: aiohttp.ClientSession) -> str:
        model, tokens = self._request()
        messages = [{"role": "user", "content": "go"}]
        body = {"model": model, "messages": messages, "stream": False, "options": {"num_predict": tokens}}
        async with session.post("/api/chat", json=body) as answer:
            if not await self._good(answer):
                return "lost"
            said = (await answer.json(content_type=None))["message"]["content"]
        return self._judged(model, tokens, said, None, whole=True, told=False)

    async def _leave(self, session: aiohttp.ClientSession) -> str:
        model, tokens = self._request()
        body = {"model": model, "prompt": "go", "options": {"num_predict": 10 * tokens}}
        async with session.post("/api/generate", json=body) as answer:
            if not await self._good(answer):
                return "lost"
            for _ in range(self._luck.randint(0, 5)):
                await answer.content.readline()
            answer.close()
        return "left"

    async def _list(self, session: aiohttp.ClientSession) -> str:
        async with session.get("/api/tags") as answer:
            if not await self._good(answer):
                return "lost"
            names = {model["name"] for model in (await answer.json())["models"]}
        if not names >= set(self._fleet.words):
            self.seen.violated(f"/api/tags lacks {set(self._fleet.words) - names}")
        return "listed"

    def _judged(self, model: str, tokens: int, text: str, last: object, *, whole: bool, told: bool) -> str:
        expected = recitation(self._fleet.words[model], tokens)
        if told and expected.startswith(text):
            return "told"
        if whole and text == expected:
            return "whole"
        ended = "ended" if whole else "cut"
        self.seen.violated(f"{model}, {tokens} tokens: {ended} after {text[-40:]!r}, with {str(last)[-200:]}")
        return "wrong"
