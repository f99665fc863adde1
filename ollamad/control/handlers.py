"""What each endpoint does: a call of a service, and its answer as JSON."""

from __future__ import annotations

import functools
import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final

from aiohttp import web

from ollamad.config.load import did_you_mean
from ollamad.control import view
from ollamad.control.claim import Peer
from ollamad.control.describe import NDJSON, openapi
from ollamad.control.endpoints import ENDPOINTS
from ollamad.control.keys import KeyHandlers
from ollamad.control.operations import Demo, Services
from ollamad.control.running import Operation, Running, State, Step, Work
from ollamad.errors import ClientError, OperationFailed, UnknownChild
from ollamad.fleet.tape import Missed

FIRST_WORD_S: Final = 1.0
"""How long an answer is held back to see whether an operation fails at once: then its status says so."""

PEER: Final = web.RequestKey("peer", Peer)
MAY_CHANGE: Final = web.RequestKey("may_change", bool)
"""Whether this peer may do more than look."""
OPERATION_HEADER: Final = "X-Ollamad-Operation"


class Handlers:
    """One method for each row of the table, by the row's name."""

    def __init__(self, services: Services, running: Running) -> None:
        self._services = services
        self._operations = services.operations
        self._running = running
        self._keys = KeyHandlers(services.keyring)

    async def status(self, _request: web.Request) -> web.StreamResponse:
        """`GET /v1/status`."""
        return web.json_response({**self._services.status(), "daemon": self._services.about()})

    async def children(self, _request: web.Request) -> web.StreamResponse:
        """`GET /v1/children`."""
        return web.json_response({"children": self._services.status()["children"]})

    async def child(self, request: web.Request) -> web.StreamResponse:
        """`GET /v1/children/{id}`."""
        name = request.match_info["id"]
        children = self._services.status()["children"]
        for child in children:
            if child["id"] == name:
                return web.json_response(child)
        names = [child["id"] for child in children]
        hint = did_you_mean(name, names) or f"; there are {', '.join(names)}"
        raise UnknownChild(f'there is no child "{name}"{hint}')

    async def gpus(self, _request: web.Request) -> web.StreamResponse:
        """`GET /v1/gpus`."""
        return web.json_response({"gpus": view.gpus(self._services.status())})

    async def requests(self, _request: web.Request) -> web.StreamResponse:
        """`GET /v1/requests`."""
        return web.json_response(view.requests(self._operations.snapshot()))

    async def logs(self, request: web.Request) -> web.StreamResponse:
        """`GET /v1/children/{id}/logs`."""
        child = request.match_info["id"]
        if _flag(request, "follow"):
            return await _stream(request, _lines(self._operations.follow(child)))
        return web.json_response({"child": child, "lines": list(self._operations.lines(child))})

    async def drain(self, request: web.Request) -> web.StreamResponse:
        """`POST /v1/children/{id}/drain`."""
        return await self._change(request, self._operations.drain)

    async def undrain(self, request: web.Request) -> web.StreamResponse:
        """`POST /v1/children/{id}/undrain`."""
        return await self._change(request, self._operations.undrain)

    async def restart(self, request: web.Request) -> web.StreamResponse:
        """`POST /v1/children/{id}/restart`."""
        return await self._change(request, self._operations.restart)

    async def reset(self, request: web.Request) -> web.StreamResponse:
        """`POST /v1/children/{id}/reset`."""
        return await self._change(request, self._operations.reset)

    async def _change(self, request: web.Request, change: Callable[[str], None]) -> web.StreamResponse:
        """Ask for it, and answer with the child as it was before: what was asked takes effect after this."""
        before = await self.child(request)
        change(request.match_info["id"])
        return before

    async def restart_all(self, request: web.Request) -> web.StreamResponse:
        """`POST /v1/restart`."""
        return await self._start(request, "restart", self._operations.rolling_restart)

    async def reload(self, request: web.Request) -> web.StreamResponse:
        """`POST /v1/reload`."""
        return await self._start(request, "reload", self._operations.reload)

    async def route(self, request: web.Request) -> web.StreamResponse:
        """`GET /v1/route`."""
        model = request.query.get("model", "")
        if not model or {*request.query} != {"model"}:
            raise ClientError(400, "of this query only model=NAME is understood, and it is needed")
        explained = self._services.operations.explain(model)
        return web.json_response({"model": model, **explained})

    async def pull(self, request: web.Request) -> web.StreamResponse:
        """`POST /v1/pull`."""
        asked = _asked(request, "model", "detach", "insecure")
        model, detached = asked["model"], _is_on(request, "detach")
        work = functools.partial(self._operations.pull, model, insecure=_is_on(request, "insecure"))
        return await self._start(request, "pull", work, about=model, detached=detached)

    async def load(self, request: web.Request) -> web.StreamResponse:
        """`POST /v1/load`."""
        asked = _asked(request, "model", "child", "keep_alive", "detach")
        model, on, keep_alive = asked["model"], asked.get("child", ""), asked.get("keep_alive") or None
        children = [name for name in on.split(",") if name]
        for child in children:
            self._operations.lines(child)  # UnknownChild is answered at once
        seconds = int(keep_alive) if keep_alive and keep_alive.removeprefix("-").isdecimal() else keep_alive
        work = functools.partial(self._operations.load, model, children, seconds)
        return await self._start(request, "load", work, about=model, detached=_is_on(request, "detach"))

    async def sync(self, request: web.Request) -> web.StreamResponse:
        """`POST /v1/sync`."""
        return await self._start(request, "sync", self._services.operations.sync)

    async def prune(self, request: web.Request) -> web.StreamResponse:
        """`POST /v1/prune`."""
        dry_run, now = _flag(request, "dry_run", "detach", "now"), _flag(request, "now", "dry_run", "detach")
        work = functools.partial(self._services.operations.prune, dry_run=dry_run, now=now)
        return await self._start(request, "prune", work, detached=_flag(request, "detach", "dry_run", "now"))

    async def keys(self, _request: web.Request) -> web.StreamResponse:
        """`GET /v1/keys`."""
        return self._keys.listed()

    async def create_key(self, request: web.Request) -> web.StreamResponse:
        """`POST /v1/keys`."""
        return await self._keys.create(request)

    async def revoke_key(self, request: web.Request) -> web.StreamResponse:
        """`POST /v1/keys/{id}/revoke`."""
        return await self._keys.revoke(request, let_finish=_flag(request, "let_finish"))

    async def lend_key(self, request: web.Request) -> web.StreamResponse:
        """`GET /v1/key`."""
        return self._keys.lent(may_change=request[MAY_CHANGE])

    async def operations(self, _request: web.Request) -> web.StreamResponse:
        """`GET /v1/operations`."""
        return web.json_response({"operations": [one.summary() for one in self._running.all()]})

    async def operation(self, request: web.Request) -> web.StreamResponse:
        """`GET /v1/operations/{id}`."""
        name = request.match_info["id"]
        found = self._running.get(name)
        if found is None:
            raise ClientError(404, f'there is no operation "{name}"; GET /v1/operations lists those that are kept')
        if _flag(request, "follow"):
            return await _stream(request, _progress(found))
        return web.json_response(found.summary() | {"progress": [_shown(step) for step in found.steps.kept]})

    async def demo(self, _request: web.Request) -> web.StreamResponse:
        """`GET /v1/demo`."""
        return web.json_response(self._demo().state())

    async def demo_do(self, request: web.Request) -> web.StreamResponse:
        """`POST /v1/demo`."""
        asked = _asked(request, "act", "target", "value")
        demo = self._demo()
        done = await demo.do(asked["act"], asked.get("target") or None, asked.get("value") or None)
        return web.json_response({"done": done, **demo.state()})

    def _demo(self) -> Demo:
        demo = self._services.demo
        if demo is None:
            raise OperationFailed("this ollamad is no demo: nothing is broken on purpose; ollamad demo starts one")
        return demo

    async def description(self, _request: web.Request) -> web.StreamResponse:
        """`GET /v1/openapi.json`."""
        return web.json_response(openapi(ENDPOINTS))

    async def _start(
        self, request: web.Request, kind: str, work: Work, *, about: str | None = None, detached: bool | None = None
    ) -> web.StreamResponse:
        """Start a long operation and stream its progress; one that fails before any has a status that says so.

        `detached` is whether the query says so, where it has other keys too.
        """
        if detached is None:
            detached = _flag(request, "detach")
        operation = self._running.start(kind, work, request[PEER].uid, about)
        headers = {OPERATION_HEADER: operation.id}
        if detached:
            return web.json_response(operation.summary(), status=202, headers=headers)
        if not operation.steps.said:
            await operation.steps.changed(FIRST_WORD_S)
        if operation.state is State.FAILED and not operation.steps.said:
            status = 422 if operation.problems else 409
            return web.json_response(operation.summary(), status=status, headers=headers)
        return await _stream(request, _progress(operation), headers)


async def _progress(operation: Operation) -> AsyncIterator[Mapping[str, object]]:
    """Each step, and at last how it ended."""
    async for step in operation.steps.read():
        if not isinstance(step, Missed):
            yield {"operation": operation.id, **_shown(step)}
    yield operation.summary()


def _shown(step: Step) -> dict[str, object]:
    return {"seconds": step.at_s, "progress": step.facts}


async def _lines(lines: AsyncIterator[str | Missed]) -> AsyncIterator[Mapping[str, object]]:
    async for line in lines:
        yield {"missed": line.count} if isinstance(line, Missed) else {"line": line}


async def _stream(
    request: web.Request, records: AsyncIterator[Mapping[str, object]], headers: Mapping[str, str] | None = None
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": NDJSON, **(headers or {})})
    await response.prepare(request)
    async for record in records:
        await response.write(json.dumps(record, default=str).encode() + b"\n")
    await response.write_eof()
    return response


def _flag(request: web.Request, name: str, *others: str) -> bool:
    """A key of the query that is 0 or 1. Raises ClientError for anything else, and for keys beside the `others`."""
    if {*request.query} - {name, *others} or request.query.get(name, "0") not in {"0", "1"}:
        understood = " and ".join(f"{key}=0 or {key}=1" for key in (name, *others))
        raise ClientError(400, f"of this query only {understood} is understood")
    return _is_on(request, name)


def _is_on(request: web.Request, name: str) -> bool:
    return request.query.get(name, "0") == "1"


def _asked(request: web.Request, needed: str, *others: str) -> Mapping[str, str]:
    """The keys of a query that names something. Raises ClientError where `needed` is missing, and for other keys."""
    asked = dict(request.query)
    if not asked.get(needed) or asked.keys() - {needed, *others} or asked.get("detach", "0") not in {"0", "1"}:
        understood = ", ".join(f"{key}=…" for key in (needed, *others))
        raise ClientError(400, f"of this query only {understood} are understood, and {needed} is needed")
    return asked


def all_of(handlers: Handlers) -> Mapping[str, Callable[[web.Request], Any]]:
    """The methods by name; AttributeError tells of a row in the table that nothing answers."""
    return {endpoint.handler: getattr(handlers, endpoint.handler) for endpoint in ENDPOINTS}
