"""Ollama's HTTP routes (0.33, server/routes.go:1841-1929) as data, and what each means to a proxy before several.

All that the proxy does differently by route follows from a row of this table. What has no row passes through to any
ready child, so that a newer Ollama works on the day it is released.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Final

from ollamad.routing.decide import Need, Work


class Kind(Enum):
    """Which of the proxy's ways a request takes."""

    ANY = "any"
    """To any child, whose answer it is."""
    RUN = "run"
    """Inference, loading and unloading."""
    TAGS = "tags"
    MODELS = "models"
    MODEL = "model"
    SHOW = "show"
    PS = "ps"
    VERSION = "version"
    PULL = "pull"
    PUSH = "push"
    CREATE = "create"
    COPY = "copy"
    DELETE = "delete"
    BLOB = "blob"


class Named(Enum):
    """Where the model's name is."""

    NOWHERE = "nowhere"
    MODEL = "model"
    """In the JSON field `model`, in older clients `name`."""
    FORM = "form"
    """In the field `model` of a multipart form."""
    PAIR = "pair"
    """In `source` and `destination`."""
    PATH = "path"
    """At the end of the path."""


class Effect(Enum):
    """What a request changes."""

    NOTHING = "nothing"
    STORE = "store"
    """The models there are."""
    UNKNOWN = "unknown"


class Body(Enum):
    """What to do with the request's body."""

    KEPT = "kept"
    """Read whole (within `proxy.body_max_bytes`) before a child is chosen: it can be looked into and sent again."""
    STREAMED = "streamed"
    """Passed on as it comes, never held: uploads of many gigabytes, and whatever is unknown."""


@dataclass(frozen=True)
class Route:
    """What a proxy needs to know of a route. What follows from the rest is worked out once: every request asks."""

    kind: Kind
    named: Named = Named.NOWHERE
    effect: Effect = Effect.NOTHING
    work: Work = Work.GENERATE
    """What a runner does for it, where it needs one."""

    @cached_property
    def need(self) -> Need:
        """What it asks of a child."""
        if self.kind is Kind.RUN:
            return Need.RUNNER
        return Need.STORE if self.effect is Effect.STORE or self.kind in {Kind.PUSH, Kind.BLOB} else Need.ANY

    @cached_property
    def body(self) -> Body:
        """What to do with its body."""
        return Body.STREAMED if self.kind is Kind.BLOB or self.effect is Effect.UNKNOWN else Body.KEPT

    @cached_property
    def is_listed(self) -> bool:
        """Whether the table has it."""
        return self.effect is not Effect.UNKNOWN

    @cached_property
    def elsewhere_on_5xx(self) -> bool:
        """Whether a child's 5xx is worth another child: a runner that can't load here may load there."""
        return self.kind is Kind.RUN


UNKNOWN: Final = Route(Kind.ANY, effect=Effect.UNKNOWN)
CLOUD: Final = Route(Kind.ANY, Named.MODEL)
"""Inference that a child hands on to ollama.com: any child can, and no GPU is asked for."""

_PLAIN: Final = Route(Kind.ANY)
_RUNS: Final = Route(Kind.RUN, Named.MODEL)
_EMBEDS: Final = Route(Kind.RUN, Named.MODEL, work=Work.EMBED)

_ROUTES: Final[dict[tuple[str, str], Route]] = {
    ("GET", "/"): _PLAIN,
    ("HEAD", "/"): _PLAIN,
    ("HEAD", "/api/version"): _PLAIN,
    ("GET", "/api/version"): Route(Kind.VERSION),
    ("GET", "/api/status"): _PLAIN,
    ("HEAD", "/api/tags"): Route(Kind.TAGS),
    ("GET", "/api/tags"): Route(Kind.TAGS),
    ("GET", "/api/ps"): Route(Kind.PS),
    ("POST", "/api/show"): Route(Kind.SHOW, Named.MODEL),
    ("POST", "/api/generate"): _RUNS,
    ("POST", "/api/chat"): _RUNS,
    ("POST", "/api/embed"): _EMBEDS,
    ("POST", "/api/embeddings"): _EMBEDS,
    ("POST", "/api/pull"): Route(Kind.PULL, Named.MODEL, Effect.STORE),
    ("POST", "/api/push"): Route(Kind.PUSH, Named.MODEL),
    ("POST", "/api/create"): Route(Kind.CREATE, Named.MODEL, Effect.STORE),
    ("POST", "/api/copy"): Route(Kind.COPY, Named.PAIR, Effect.STORE),
    ("DELETE", "/api/delete"): Route(Kind.DELETE, Named.MODEL, Effect.STORE),
    ("POST", "/api/me"): _PLAIN,
    ("POST", "/api/signout"): _PLAIN,
    ("POST", "/api/experimental/web_search"): _PLAIN,
    ("POST", "/api/experimental/web_fetch"): _PLAIN,
    ("GET", "/api/experimental/model-recommendations"): _PLAIN,
    ("POST", "/v1/chat/completions"): _RUNS,
    ("POST", "/v1/completions"): _RUNS,
    ("POST", "/v1/responses"): _RUNS,
    ("POST", "/v1/messages"): _RUNS,
    ("POST", "/v1/embeddings"): _EMBEDS,
    ("POST", "/v1/audio/transcriptions"): Route(Kind.RUN, Named.FORM),
    ("GET", "/v1/models"): Route(Kind.MODELS),
}

_PATTERNS: Final[tuple[tuple[str, re.Pattern[str], Route], ...]] = (
    ("HEAD", re.compile(r"/api/blobs/[^/]+"), Route(Kind.BLOB)),
    ("POST", re.compile(r"/api/blobs/[^/]+"), Route(Kind.BLOB, effect=Effect.STORE)),
    ("GET", re.compile(r"/v1/models/.+"), Route(Kind.MODEL, Named.PATH)),
    ("DELETE", re.compile(r"/api/user/keys/.+"), _PLAIN),
)


def is_forwarded(path: str) -> bool:
    """Whether clients may have this path at all: a Go server's profiler, should a version have one, is not theirs."""
    return path != "/debug" and not path.startswith("/debug/")


def route_of(method: str, path: str) -> Route:
    """The route of a request; `UNKNOWN` for what the table does not have (`OPTIONS` and its CORS answer included)."""
    if route := _ROUTES.get((method, path)):
        return route
    return next((route for verb, form, route in _PATTERNS if verb == method and form.fullmatch(path)), UNKNOWN)
