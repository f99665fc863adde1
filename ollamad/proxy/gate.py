"""Who a request is from, and whether they may: keys, their scopes and models, and how often anybody may ask.

Without keys and without a bound on addresses it does nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Final

from aiohttp import web

from ollamad.access.addresses import Addresses, network_of
from ollamad.access.holder import Holder
from ollamad.access.keyring import Keyring, admit
from ollamad.access.presented import presented_key
from ollamad.access.refusals import forbidden, too_many, unauthorized
from ollamad.access.scopes import scope_of
from ollamad.config.schema import Proxy
from ollamad.errors import ClientError
from ollamad.ollama.routes import Kind, Named, Route
from ollamad.proxy.fields import names_in
from ollamad.proxy.shared import trip_of
from ollamad.proxy.wishes import PRIORITY_HEADER
from ollamad.routing.request import Request

NO_LABEL: Final[Mapping[str, str]] = {}
_FIELDS: Final = {
    Kind.COPY: frozenset({"source", "destination"}),
    Kind.CREATE: frozenset({"model", "name", "from"}),
}
_MODEL: Final = frozenset({"model", "name"})
_RECIPES: Final = frozenset({"modelfile", "path"})
"""What a model is made of, told by another text: of the request (0.5.4), or of a file, such as a blob of any words."""
_NAMED: Final = frozenset({Named.MODEL, Named.PAIR, Named.FORM})


class Gate:
    """Before every request."""

    def __init__(self, keyring: Keyring, settings: Callable[[], Proxy]) -> None:
        self._keyring = keyring
        self._settings = settings
        self._addresses = Addresses()

    def know(self, incoming: web.Request) -> Mapping[str, str]:
        """See whose request it is, and tell how the log calls them; `admit` then says what is wrong with it."""
        if not self._keyring.closed:
            return NO_LABEL
        trip = trip_of(incoming)
        try:
            trip.holder = self._holder(incoming)
        except ClientError as error:
            trip.stranger = error
            return NO_LABEL
        return {"key": trip.holder.label}

    def admit(self, incoming: web.Request, route: Route) -> str | None:
        """Let it in, before its body is read; gives its key's label, if it has one. Raises ClientError."""
        if per_minute := self._settings().requests_per_client_per_minute:
            wait_s = self._addresses.draw(network_of(incoming.remote or ""), per_minute, time.monotonic())
            if wait_s:
                raise too_many(f"this address may ask {per_minute} times a minute", int(wait_s) + 1)
        trip = trip_of(incoming)
        if trip.stranger is not None:
            raise trip.stranger
        if trip.holder is None:
            return None
        admit(trip.holder, scope_of(incoming.path, route))
        return trip.holder.label

    def admit_body(self, incoming: web.Request, route: Route, body: bytes) -> None:
        """See that a key for some models only names one of them. Raises ClientError.

        A child may read a body otherwise than we do (Go takes any case of a field's name, the last of two, and what it
        has unpacked): where that could be another model, it is refused.
        """
        holder = trip_of(incoming).holder
        if holder is None or holder.key.any_model:
            return
        if route.kind is Kind.MODEL:
            _see(holder, incoming.path.removeprefix("/v1/models/"))
        if route.named not in _NAMED:
            return
        parts = route.named is Named.FORM or incoming.content_type == "multipart/form-data"
        if parts or "Content-Encoding" in incoming.headers:
            told = "an API key for some models only takes plain JSON, not packed or in parts"
            raise ClientError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, told)
        names = names_in(body, _FIELDS.get(route.kind, _MODEL))
        if not names or (route.kind is Kind.CREATE and names_in(body, _RECIPES) != []):
            raise forbidden("an API key for some models only takes a request that names one, as JSON, once")
        for name in names:
            _see(holder, name)

    def granted(self, incoming: web.Request, request: Request) -> Request:
        """The request as its key has it: whose it is, and with what priority."""
        holder = trip_of(incoming).holder
        if holder is None:
            return request
        share = holder.key.share
        if PRIORITY_HEADER in incoming.headers:
            share = min(share, request.priority, key=lambda priority: priority.value)
        return replace(request, client=holder.id, priority=share)

    def _holder(self, incoming: web.Request) -> Holder:
        presented = presented_key(incoming.headers)
        if presented is None:
            raise unauthorized("an API key is needed here: send it as Authorization: Bearer KEY, or as X-Api-Key: KEY")
        return self._keyring.holder(presented)


def sees(incoming: web.Request) -> Callable[[str], bool] | None:
    """Which models whoever asks may know of; None where it is all of them."""
    holder = trip_of(incoming).holder
    return None if holder is None or holder.key.any_model else holder.key.allows_model


def _see(holder: Holder, name: str) -> None:
    if not holder.key.allows_model(name):
        raise forbidden(f"this API key is not for the model {name[:200]!r}")
