"""Requests of the contract suite, and what must be alike in their answers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp

_TIME: Final = r'"[^"]*"'
_NUMBER: Final = r"\d+"

DIFFERS: Final = (
    # field, what its value looks like, whether it may be missing
    ("created_at", _TIME, False),
    ("expires_at", _TIME, False),
    ("total_duration", _NUMBER, True),  # all durations: Ollama leaves out what is zero
    ("load_duration", _NUMBER, True),
    ("prompt_eval_duration", _NUMBER, True),
    ("eval_duration", _NUMBER, True),
    ("created", _NUMBER, False),
    ("id", r'"(?:chatcmpl|cmpl)-\d+"', False),  # random; the `id` of a listed model is its name, and must be alike
    ("child", _TIME, True),  # the one field that ollamad adds, in `/api/ps`
)
"""The fields whose values can't be alike, wherever they are."""

MADE_DIFFERS: Final = (
    ("modified_at", _TIME, False),
    ("digest", r'"[0-9a-f]{64}"', False),  # of a manifest that names the folder it was made in
)
"""The same, of a model that the scenario itself has made."""

LOADED_DIFFERS: Final = (
    ("size", _NUMBER, False),  # of what is loaded: an estimate by the machine
    ("size_vram", _NUMBER, False),
)
"""The same, in `/api/ps`."""

HEADERS: Final = ("Content-Type", "Location", "Allow", "WWW-Authenticate")
"""The headers that must be alike. `Content-Length` may be left out for another framing."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request."""

    method: str
    path: str
    body: object = None
    """Text or bytes as they are; anything else as JSON."""
    made: bool = False
    """Whether the answer tells of a model that the scenario has made."""

    @property
    def sent(self) -> bytes | None:
        """The body's bytes."""
        if self.body is None or isinstance(self.body, bytes):
            return self.body
        return (self.body if isinstance(self.body, str) else json.dumps(self.body)).encode()

    def __str__(self) -> str:
        return f"{self.method} {self.path} {(self.sent or b'').decode(errors='replace')[:200]}".rstrip()


@dataclass(frozen=True, slots=True)
class Told:
    """What must be alike in an answer."""

    ask: str
    status: int
    headers: tuple[str | None, ...]
    body: str


async def ask_all(base_url: str, store: Path, asks: Iterable[Ask]) -> list[Told]:
    """Ask one after the other."""
    async with aiohttp.ClientSession() as session:
        return [await _told(session, base_url, store, ask) for ask in asks]


async def _told(session: aiohttp.ClientSession, base_url: str, store: Path, ask: Ask) -> Told:
    request = session.request(ask.method, base_url + ask.path, data=ask.sent, allow_redirects=False)
    async with request as answer:
        body = (await answer.read()).decode()
        headers = tuple(answer.headers.get(name) for name in HEADERS)
    # Of stores apart any child's may be named: changes go to the first child that is ready.
    whole = store.parent.parent if store.parent.name == "children" else store
    return Told(
        str(ask),
        answer.status,
        headers,
        comparable(re.sub(rf"{re.escape(str(whole))}(/children/\w+)?", "STORE", body), ask),
    )


def comparable(body: str, ask: Ask) -> str:
    """A body without what can't be alike."""
    differing = DIFFERS + (MADE_DIFFERS if ask.made else ()) + (LOADED_DIFFERS if ask.path == "/api/ps" else ())
    for field, value, may_be_missing in differing:
        if may_be_missing:
            body = re.sub(f',"{field}":{value}', "", body)
        else:
            body = re.sub(f'"{field}":{value}', f'"{field}":*', body)
    return body
