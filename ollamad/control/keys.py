"""The endpoints of API keys: listed without what opens a door, made, revoked, and lent to ollamactl for a minute."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from aiohttp import web

from ollamad.access.holder import Usage
from ollamad.access.key import Grant, Key, Scope
from ollamad.access.keyring import Keyring
from ollamad.errors import ClientError

LOOKING: Final = (Scope.READ, Scope.STATUS)


class KeyHandlers:
    """One method for each of these rows of the table."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    def listed(self) -> web.Response:
        """`GET /v1/keys`."""
        keys = [_shown(name, key, self._keyring.usage(name)) for name, key in self._keyring.keys.items()]
        return web.json_response({"closed": self._keyring.closed, "keys": keys})

    async def create(self, request: web.Request) -> web.Response:
        """`POST /v1/keys`."""
        try:
            grant = msgspec.json.decode(await request.read(), type=Grant)
        except (ValueError, RecursionError) as error:
            told = f"this grants nothing: {error}; GET /v1/openapi.json tells what a grant is"
            raise ClientError(400, told) from error
        key_id, secret = await self._keyring.create(grant)
        return web.json_response({"id": key_id, "name": grant.name, "key": secret})

    async def revoke(self, request: web.Request, *, let_finish: bool) -> web.Response:
        """`POST /v1/keys/{id}/revoke`."""
        key_id, key, ended = await self._keyring.revoke(request.match_info["id"], let_finish=let_finish)
        return web.json_response({"id": key_id, "name": key.name, "requests_ended": ended})

    def lent(self, *, may_change: bool) -> web.Response:
        """`GET /v1/key`."""
        scopes = (*Scope,) if may_change else LOOKING
        return web.json_response({"key": self._keyring.lend(*scopes) if self._keyring.closed else None})


def _shown(key_id: str, key: Key, usage: Usage) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.to_builtins(key)
    del document["sha256"]
    used = {"requests": usage.requests, "in_flight": usage.in_flight, "last_used": usage.last_used}
    return {"id": key_id, **document, **msgspec.to_builtins(used)}
