"""Whether a request is one for all children together, by its route; the rest is relayed to one of them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from http import HTTPStatus
from typing import Final

import aiohttp
import structlog
from aiohttp import web

from ollamad.errors import NoAnswer, StoreError
from ollamad.fleet.synchronizer import Synchronizer
from ollamad.ollama.names import parse
from ollamad.ollama.routes import Kind, Route
from ollamad.proxy.fields import only_unloads
from ollamad.proxy.reads import Children, Reads
from ollamad.proxy.shapes import error_response
from ollamad.proxy.writes import Writes

log = structlog.get_logger()

READS: Final[Collection[Kind]] = frozenset({Kind.TAGS, Kind.MODELS, Kind.MODEL, Kind.SHOW, Kind.PS, Kind.VERSION})
WRITES: Final[Collection[Kind]] = frozenset({Kind.PULL, Kind.PUSH, Kind.CREATE, Kind.COPY, Kind.DELETE, Kind.BLOB})


class AsOne:
    """Answers what concerns all children."""

    def __init__(
        self,
        fleet: Children,
        session: aiohttp.ClientSession,
        synchronizer: Synchronizer,
        attempts_max: Callable[[], int],
    ) -> None:
        """`attempts_max` gives how often one that nobody answered is tried, by the configuration in force."""
        self._attempts_max = attempts_max
        self._synchronizer = synchronizer
        self._reads = Reads(fleet, session, synchronizer)
        self._writes = Writes(fleet, session, synchronizer)

    @staticmethod
    def concerns(route: Route, path: str, body: bytes | None) -> bool:
        """Whether this may be one for all children; what is not need not be asked about. Costs next to nothing."""
        if route.kind is Kind.RUN:
            return bool(body) and only_unloads(path, body or b"")
        return route.kind is not Kind.ANY

    async def answer(self, incoming: web.Request, route: Route, body: bytes | None) -> web.StreamResponse | None:
        """The answer to what `concerns` all, or None where one child's own is meant. Raises NoAnswer, CapacityError.

        `body` is None where it is streamed.
        """
        attempts_max = self._attempts_max() if body is not None else 1
        for left in reversed(range(attempts_max)):
            try:
                return await self._once(incoming, route, body)
            except StoreError as error:
                return error_response(incoming.path, HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
            except NoAnswer as error:
                if not left:
                    raise
                log.warning("request sent again", path=incoming.path, reason=str(error))
        return None

    async def _once(self, incoming: web.Request, route: Route, body: bytes | None) -> web.StreamResponse | None:
        if route.kind in READS:
            return await self._reads.answer(incoming, route.kind, body or b"")
        if route.kind in WRITES:
            return await self._writes.answer(incoming, route.kind, body)
        return await self._writes.unload(incoming, body or b"")

    async def has(self, model: str | None) -> bool:
        """Whether this model is there, by its files."""
        name = parse(model) if model else None
        return name is not None and bool(await self._synchronizer.where(name.key))

    def may_lack(self, model: str | None) -> bool:
        """Whether `lacking` may give any."""
        return model is not None and self._synchronizer.per_child

    async def lacking(self, model: str | None) -> frozenset[tuple[str, int]]:
        """The lives of children that are not to be asked for this model, since only others have it."""
        return await self._synchronizer.lacking(model)
