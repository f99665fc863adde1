"""What a request asks of routing: from its path, its headers and a look into its body."""

from __future__ import annotations

import math
from collections.abc import Mapping
from hashlib import blake2b
from typing import Final

from aiohttp import web

from ollamad.ollama.names import is_cloud
from ollamad.ollama.routes import Route
from ollamad.proxy.peek import NOTHING, model_of, peek
from ollamad.routing.decide import Need, Priority, Request, Work

PRIORITY_HEADER: Final = "X-Ollamad-Priority"
"""`high`, `normal` or `low`."""
PATIENCE_HEADER: Final = "X-Ollamad-Wait-Max"
"""Seconds that the client will wait for a slot."""
ANY: Final = Request(Need.ANY)
STORE: Final = Request(Need.STORE)


def request_of(
    incoming: web.Request, route: Route, body: bytes, usual: Mapping[str, object], client_header: str
) -> Request:
    """The request, as routing sees it. `usual` are the options that children have by themselves."""
    if route.need is not Need.RUNNER:
        return ANY if route.need is Need.ANY else STORE
    model = model_of(body, incoming.content_type)
    if model is None or is_cloud(model):
        return Request(Need.RUNNER if model is None else Need.ANY, model)
    native = incoming.path.startswith("/api/")
    seen = peek(body, usual) if incoming.content_type != "multipart/form-data" else NOTHING
    if native and seen.unloads:
        return Request(Need.ANY, model, work=Work.UNLOAD)
    return Request(
        Need.RUNNER,
        model,
        work=route.work,
        shape=seen.shape if native else "",
        client=client_of(incoming.headers, client_header, incoming.remote or ""),
        priority=_priority(incoming.headers.get(PRIORITY_HEADER, "")),
        patience_s=_patience_s(incoming.headers.get(PATIENCE_HEADER, "")),
        prompt_bytes=seen.prompt_bytes,
        prefix=seen.prefix,
    )


def client_of(headers: Mapping[str, str], client_header: str, address: str) -> str:
    """Whose request it is: an API key (of which only a hash is kept), else the header for this, else the address."""
    key = headers.get("Authorization") or headers.get("X-Api-Key")
    if key:
        return blake2b(key.encode(errors="replace"), digest_size=8).hexdigest()
    return (headers.get(client_header, "") if client_header else "")[:128] or address


def _priority(text: str) -> Priority:
    return Priority.__members__.get(text.strip().upper(), Priority.NORMAL) if text else Priority.NORMAL


def _patience_s(text: str) -> float | None:
    """None where it is no number of seconds."""
    if not text:  # of nearly every request: an error caught takes 1 µs
        return None
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None
