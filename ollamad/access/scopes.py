"""What scope a request needs, by its route. Pure.

What is not known to be harmless needs `manage`: a route that a newer Ollama has is closed to others until it is listed.
"""

from __future__ import annotations

from typing import Final

from ollamad.access.key import Scope
from ollamad.ollama.routes import Kind, Route

_BY_KIND: Final = {
    Kind.RUN: Scope.INFER,
    **dict.fromkeys((Kind.TAGS, Kind.MODELS, Kind.MODEL, Kind.SHOW, Kind.PS, Kind.VERSION), Scope.READ),
}
_BY_PATH: Final = {
    "/": Scope.READ,
    "/api/version": Scope.READ,
    "/api/status": Scope.READ,
    "/api/tags": Scope.READ,
    "/api/experimental/model-recommendations": Scope.READ,
    "/api/experimental/web_search": Scope.INFER,
    "/api/experimental/web_fetch": Scope.INFER,
}
"""Of those that any child answers, those that change nothing."""


def scope_of(path: str, route: Route) -> Scope:
    """The scope that a request for this path needs, which is on this route."""
    if (scope := _BY_KIND.get(route.kind)) is not None:
        return scope
    return _BY_PATH.get(path, Scope.MANAGE) if route.is_listed else Scope.MANAGE
