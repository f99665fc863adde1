"""Ollama's HTTP routes (0.33, server/routes.go:1841-1929), and what each means to a proxy in front of several.

A route that is not here passes through to any ready child, so that a newer Ollama works on the day it is released.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

from ollamad.routing.decide import Need


class Body(Enum):
    """What to do with the request's body."""

    KEPT = "kept"
    """Read whole (within `proxy.body_max_bytes`) before a child is chosen: it can be looked into and sent again."""
    STREAMED = "streamed"
    """Passed on as it comes, never held: uploads of many gigabytes, and whatever is unknown."""


@dataclass(frozen=True, slots=True)
class Route:
    """What a proxy needs to know of a route."""

    need: Need
    body: Body
    elsewhere_on_5xx: bool = False
    """Whether a child's 5xx is worth another child: a runner that can't load here may load there."""
    of_all: bool = False
    """Whether the answer is put together from every child's."""


RUNNER: Final = Route(Need.RUNNER, Body.KEPT, elsewhere_on_5xx=True)
CHANGE: Final = Route(Need.STORE, Body.KEPT)
UPLOAD: Final = Route(Need.STORE, Body.STREAMED)
LOADED: Final = Route(Need.ANY, Body.KEPT, of_all=True)
READ: Final = Route(Need.ANY, Body.KEPT)
UNKNOWN: Final = Route(Need.ANY, Body.STREAMED)

_ROUTES: Final[dict[tuple[str, str], Route]] = {
    ("POST", "/api/generate"): RUNNER,
    ("POST", "/api/chat"): RUNNER,
    ("POST", "/api/embed"): RUNNER,
    ("POST", "/api/embeddings"): RUNNER,
    ("POST", "/v1/chat/completions"): RUNNER,
    ("POST", "/v1/completions"): RUNNER,
    ("POST", "/v1/embeddings"): RUNNER,
    ("POST", "/v1/responses"): RUNNER,
    ("POST", "/v1/messages"): RUNNER,
    ("POST", "/v1/audio/transcriptions"): RUNNER,
    ("POST", "/api/pull"): CHANGE,
    ("POST", "/api/push"): CHANGE,
    ("POST", "/api/create"): CHANGE,
    ("POST", "/api/copy"): CHANGE,
    ("DELETE", "/api/delete"): CHANGE,
    ("POST", "/api/show"): READ,
    ("GET", "/api/ps"): LOADED,
}

_BLOB: Final = re.compile(r"/api/blobs/[^/]+")


def is_forwarded(path: str) -> bool:
    """Whether clients may have this path at all: a Go server's profiler, should a version have one, is not theirs."""
    return path != "/debug" and not path.startswith("/debug/")


def route_of(method: str, path: str) -> Route:
    """The route of a request; `UNKNOWN` for what the table does not have."""
    if _BLOB.fullmatch(path):
        return UPLOAD
    return _ROUTES.get((method, path), UNKNOWN)
