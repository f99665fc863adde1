"""What changes models, done once and then true of every child; and unloading, done on every child."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from http import HTTPStatus

import aiohttp
import structlog
from aiohttp import hdrs, web
from multidict import CIMultiDict

from ollamad.errors import NoAnswer, Refusal
from ollamad.fleet.changes import Leases
from ollamad.fleet.dispatcher import Lease
from ollamad.fleet.synchronizer import Synchronizer
from ollamad.ollama.names import Name, parse
from ollamad.ollama.routes import Kind
from ollamad.proxy.asking import CHILD_HEADER, QUEUE_HEADER, Said, ask, ask_all
from ollamad.proxy.body import streamed
from ollamad.proxy.fields import digests_in, fields, model_field, text_field, wants_stream
from ollamad.proxy.lines import Lines
from ollamad.proxy.shapes import error_response
from ollamad.routing.decide import Need, Request
from ollamad.store.layout import digest_hex
from ollamad.store.rounds import Settled

log = structlog.get_logger()


class Writes:
    """Answers changes. Each gives None where the request names no model: a child then says what is wrong with it."""

    def __init__(self, fleet: Leases, session: aiohttp.ClientSession, synchronizer: Synchronizer) -> None:
        self._fleet = fleet
        self._session = session
        self._synchronizer = synchronizer
        self._timeout_s = synchronizer.read_timeout_s

    async def answer(self, incoming: web.Request, kind: Kind, body: bytes | None) -> web.StreamResponse | None:
        """Answer one. Raises NoAnswer, CapacityError, StoreError."""
        if kind is Kind.BLOB or body is None:
            return await self._blob(incoming, body)
        found = fields(body)
        name = parse(text_field(found, "destination") if kind is Kind.COPY else model_field(found))
        if name is None:
            return None
        if kind is Kind.PULL:
            return await self._pull(incoming, name, found)
        if kind is Kind.COPY:
            return await self._copy(incoming, name, parse(text_field(found, "source")), body)
        if kind is Kind.DELETE:
            return await self._delete(incoming, name, body)
        return await self._progressed(incoming, name, body, changes=kind is Kind.CREATE)

    async def unload(self, incoming: web.Request, body: bytes) -> web.StreamResponse:
        """Unload from every child. Raises NoAnswer where one of them did not answer: it may still have it."""
        async with self._fleet.lease(Request(Need.ANY)) as lease:
            children = self._fleet.snapshot().children
            said, silent = await ask_all(self._session, children, incoming, body, self._timeout_s)
        if silent:
            raise silent[0]
        good = [answer for answer in said if answer.ok]
        bad = [answer for answer in said if not answer.ok and answer.status != HTTPStatus.NOT_FOUND]
        chosen = bad or good or said
        if not chosen:
            raise NoAnswer("no child takes requests any more")
        answer = chosen[0].response()
        answer.headers[QUEUE_HEADER] = str(lease.waited_ms)  # as every answer of this route has it
        return answer

    async def _pull(self, incoming: web.Request, name: Name, found: dict[str, object]) -> web.StreamResponse:
        """Join the download, or begin it; what a client says of itself (`stream`) makes no other download."""
        options = {field: value for field, value in found.items() if field not in {"model", "name", "stream"}}
        pull = self._synchronizer.pull(name, options)
        lines = Lines(incoming, streams=wants_stream(found))
        try:
            async with lines.until_revoked(), aclosing(pull.follow()) as records:
                async for record in records:
                    await lines.write(record)
        except Refusal as refusal:
            return web.Response(
                status=refusal.status, body=refusal.body, headers={"Content-Type": refusal.content_type}
            )
        return await lines.end()

    async def _progressed(self, incoming: web.Request, name: Name, body: bytes, *, changes: bool) -> web.StreamResponse:
        """A create or a push: the child's own progress, and of a create the last word when all children have it."""
        found = fields(body)
        source = parse(text_field(found, "from")) if changes else name
        if changes:
            await self._synchronizer.room.need()
        async with self._synchronizer.changes.holding(name.key), self._synchronizer.changes.child() as lease:
            await self._synchronizer.bring(lease.child, [source] if source else [], digests_in(body))
            lines = Lines(incoming, streams=wants_stream(found), child=lease.child)
            async with lines.until_revoked():
                refused = await lines.relay(self._session, lease, body)
                if refused is not None:
                    return refused
                if changes and lines.succeeded:
                    trouble = _not_everywhere(name, await self._synchronizer.settle(name.key), "made")
                    if trouble:
                        lines.spoil(trouble)
            return await lines.end()

    async def _copy(self, incoming: web.Request, name: Name, source: Name | None, body: bytes) -> web.StreamResponse:
        await self._synchronizer.room.need()
        keys = (name.key, *([source.key] if source else []))
        async with self._synchronizer.changes.holding(*keys), self._synchronizer.changes.child() as lease:
            await self._synchronizer.bring(lease.child, [source] if source else [])
            said = await ask(self._session, lease.child, lease.base_url, incoming, body)
            if not said.ok:
                return said.response()
            trouble = _not_everywhere(name, await self._synchronizer.settle(name.key), "copied")
        return error_response(incoming.path, 500, trouble) if trouble else said.response()

    async def _delete(self, incoming: web.Request, name: Name, body: bytes) -> web.StreamResponse:
        """By a child, which answers; then wherever else it is, whether a child runs there or not."""
        if self._synchronizer.give_up(name):
            return error_response(
                incoming.path, 409, f"{name.short} is being pulled; stop that first, or delete it when it is there"
            )
        changes = self._synchronizer.changes
        async with changes.holding(name.key), changes.child() as lease:
            elsewhere = await self._synchronizer.where(name.key)
            said = await self._deleted(name, lease, incoming, body, there=bool(elsewhere))
            if not said.ok and not (elsewhere and said.status == HTTPStatus.NOT_FOUND):
                return said.response()
            settled = await self._synchronizer.settle(name.key, delete=True)
        if settled.problems:
            trouble = "; ".join(settled.problems)
            log.error("model not deleted everywhere", model=name.short, problems=settled.problems)
            return error_response(incoming.path, 500, f"{name.short} is not deleted everywhere: {trouble}")
        return said.response() if said.ok else web.Response()

    async def _deleted(self, name: Name, lease: Lease, incoming: web.Request, body: bytes, *, there: bool) -> Said:
        """What the child says. One that deleted it and died before it could say so has done it: another knows of none.

        Raises NoAnswer where it may still be done by another.
        """
        try:
            return await ask(self._session, lease.child, lease.base_url, incoming, body)
        except NoAnswer:
            if not there or await self._synchronizer.where(name.key):
                raise
            return Said(lease.child, HTTPStatus.OK, CIMultiDict({CHILD_HEADER: lease.child}), b"")

    async def _blob(self, incoming: web.Request, body: bytes | None) -> web.StreamResponse:
        """An upload, or the question whether it is needed: to the child that makes models now."""
        digest = digest_hex(incoming.path.removeprefix("/api/blobs/"))
        changes = self._synchronizer.changes
        if incoming.method == hdrs.METH_POST:
            await self._synchronizer.room.need()
        async with changes.holding(), changes.child() as lease:
            if digest:
                await self._synchronizer.bring(lease.child, digests=[digest])
            sent = streamed(incoming) if body is None else body
            return (await ask(self._session, lease.child, lease.base_url, incoming, sent)).response()


def _not_everywhere(name: Name, settled: Settled, done: str) -> str | None:
    """What to tell when a change came true, but not on every child."""
    if settled.everywhere:
        return None
    why: Sequence[str] = settled.problems or settled.plan.notes or ["it was deleted meanwhile"]
    log.error("model not on every child", model=name.short, problems=list(why))
    return f"{name.short} is {done}, but not on every child: {'; '.join(why)}"
