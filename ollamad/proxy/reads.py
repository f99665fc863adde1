"""What is read of all children as if they were one: lists, what is loaded, one model's facts, the version."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from http import HTTPStatus
from typing import Protocol

import aiohttp
from aiohttp import hdrs, web

from ollamad.errors import NoAnswer
from ollamad.fleet.changes import Leases, pinned
from ollamad.fleet.synchronizer import Synchronizer
from ollamad.ollama.names import Name, parse
from ollamad.ollama.routes import Kind
from ollamad.ollama.versions import version_key
from ollamad.proxy.asking import Said, ask, ask_all
from ollamad.proxy.fields import fields, model_field
from ollamad.proxy.gate import sees
from ollamad.proxy.merge import permitted, running, union
from ollamad.routing.decide import Need, Request
from ollamad.routing.snapshot import ChildView


class Children(Leases, Protocol):
    """What reads need of the fleet."""

    @property
    def versions(self) -> Collection[str | None]:
        """Of the children's programs, each once; None is that of a child that has not said it."""


class Reads:
    """Answers reads. Each gives None where any child's own answer is as good: it is relayed then."""

    def __init__(self, fleet: Children, session: aiohttp.ClientSession, synchronizer: Synchronizer) -> None:
        self._fleet = fleet
        self._session = session
        self._synchronizer = synchronizer
        self._timeout_s = synchronizer.read_timeout_s

    async def answer(self, incoming: web.Request, kind: Kind, body: bytes) -> web.StreamResponse | None:
        """Answer one. Raises NoAnswer, CapacityError."""
        if kind is Kind.VERSION:
            return await self._version(incoming)
        if kind in {Kind.SHOW, Kind.MODEL}:
            text = model_field(fields(body)) if kind is Kind.SHOW else incoming.path.removeprefix("/v1/models/")
            return await self._of_one(incoming, body, parse(text))
        if kind is Kind.PS:
            return await self._running(incoming)
        whole = not self._synchronizer.per_child and sees(incoming) is None
        return None if whole else await self._listed(incoming, kind)

    async def _all(self, incoming: web.Request) -> tuple[list[Said], tuple[ChildView, ...]]:
        """Every child's answer, once there is one to ask. Raises NoAnswer where none answers.

        Always the whole of it: a HEAD tells the length of what a GET gives.
        """
        async with self._fleet.lease(Request(Need.ANY)):
            children = self._fleet.snapshot().children
            said, silent = await ask_all(self._session, children, incoming, None, self._timeout_s, "GET")
        if not said:
            raise silent[0] if silent else NoAnswer("no child takes requests any more")
        return said, children

    async def _listed(self, incoming: web.Request, kind: Kind) -> web.StreamResponse:
        said, _ = await self._all(incoming)
        if incoming.method == hdrs.METH_HEAD:  # it has no body: the end of a chunked one would be taken for an answer
            said = [replace(answer, chunked=False) for answer in said]
        good = [answer for answer in said if answer.ok]
        if not good:
            return said[0].response()
        bodies = [answer.body for answer in good]
        if kind is Kind.TAGS:
            return good[0].response(_seen(incoming, union(bodies, "models", "name", "modified_at"), "models", "name"))
        return good[0].response(_seen(incoming, union(bodies, "data", "id"), "data", "id"))

    async def _running(self, incoming: web.Request) -> web.StreamResponse:
        said, children = await self._all(incoming)
        good = [answer for answer in said if answer.ok]
        gpus = {child.id: [gpu.uuid for gpu in child.gpus] for child in children}
        if not good:
            return said[0].response()
        loaded = running((answer.child, gpus[answer.child], answer.body) for answer in good)
        return good[0].response(_seen(incoming, loaded, "models", "name"))

    async def _of_one(self, incoming: web.Request, body: bytes, name: Name | None) -> web.StreamResponse | None:
        """From a child that has the model.

        With one store a 404 for a model that is there is Ollama's scan, upset by a file that just went: asked again.
        """
        having = await self._synchronizer.where(name.key) if name else frozenset[str]()
        if not having:
            return None
        async with self._fleet.lease(Request(Need.ANY)):
            children = [child for child in self._fleet.snapshot().children if child.routable]
        able = [child for child in children if child.id in having or not self._synchronizer.per_child]
        return await self._first_found(incoming, body, [*able, *able[:1]])

    async def _first_found(
        self, incoming: web.Request, body: bytes, children: list[ChildView]
    ) -> web.StreamResponse | None:
        said: Said | None = None
        silent: NoAnswer | None = None
        for child in children:
            base_url = f"http://127.0.0.1:{child.port}"
            try:
                said = await ask(self._session, child.id, base_url, incoming, body, timeout_s=self._timeout_s)
            except NoAnswer as error:
                silent = error
                continue
            if said.status != HTTPStatus.NOT_FOUND:
                break
        if said is None and silent is not None:
            raise silent
        return said.response() if said else None

    async def _version(self, incoming: web.Request) -> web.StreamResponse | None:
        """The lowest, so that nobody counts on what one child can't do; None where all are the same."""
        if len(self._fleet.versions) == 1:
            return None
        snapshot = self._fleet.snapshot()
        known = {child.id: child.version for child in snapshot.children if child.routable and child.version}
        if len(set(known.values())) < 2:  # noqa: PLR2004 - two are different
            return None
        lowest = min(known, key=lambda child: version_key(known[child] or ""))
        async with self._fleet.lease(pinned(lowest, snapshot)) as lease:
            said = await ask(self._session, lowest, lease.base_url, incoming, None, timeout_s=self._timeout_s)
        return said.response()


def _seen(incoming: web.Request, body: bytes, field: str, name: str) -> bytes:
    """The list, without the models that whoever asks may not use."""
    allows = sees(incoming)
    return body if allows is None else permitted(body, field, name, allows)
