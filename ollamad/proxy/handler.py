"""A request's trip: named, looked into, leased a child, relayed, and sent again elsewhere while it may be."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from typing import Any, Final

import aiohttp
import msgspec
import structlog
from aiohttp import web

from ollamad.access.holder import REVOKED, Holder, until_revoked
from ollamad.access.hosts import host_is_allowed, own_addresses
from ollamad.config.address import Address
from ollamad.config.schema import Proxy
from ollamad.errors import CapacityError, ClientError, NoAnswer
from ollamad.fleet.access_log import AccessLog
from ollamad.fleet.dispatcher import Lease
from ollamad.fleet.fleet import Fleet
from ollamad.fleet.trip import Outcome, Trip, travel
from ollamad.log import REQUEST
from ollamad.ollama.routes import CLOUD, Body, Kind, Route, is_forwarded, route_of
from ollamad.proxy.as_one import AsOne
from ollamad.proxy.asking import CHILD_HEADER, QUEUE_HEADER
from ollamad.proxy.body import kept, streamed
from ollamad.proxy.exchange import Answer, Outgoing, Refused, Relay
from ollamad.proxy.gate import Gate
from ollamad.proxy.shapes import error_response
from ollamad.proxy.shared import trip_of
from ollamad.proxy.wishes import request_of
from ollamad.routing.decide import Need, Request, Work

log = structlog.get_logger()

REQUEST_ID_MAX: Final = 128
"""Characters of a client's own id: it stands in every line about its request, and in the answer."""
ID_HEADER: Final = "X-Request-Id"
LACKS: Final = (HTTPStatus.NOT_FOUND, HTTPStatus.BAD_REQUEST)
"""What a child may say of a model that it can't find."""
Tried = frozenset[tuple[str, int]]
"""Children by name and life."""
NOBODY: Final[Tried] = frozenset()
Serving = Coroutine[Any, Any, web.StreamResponse]


class _Job(msgspec.Struct, frozen=True):
    """One request, read as far as it must be."""

    incoming: web.Request
    route: Route
    body: bytes | None
    """None where it is streamed: such a request is sent once."""
    request: Request
    id: str
    trip: Trip

    @property
    def model(self) -> str | None:
        return self.request.model

    @property
    def may_go_again(self) -> bool:
        return self.body is not None


class Handler:
    """Answers every request on the proxy's listener."""

    def __init__(self, fleet: Fleet, session: aiohttp.ClientSession, relay: Relay, listen: Address, gate: Gate) -> None:
        self._fleet = fleet
        self._gate = gate
        self._session = session
        self._relay = relay
        self._as_one = AsOne(fleet, session, fleet.synchronizer, lambda: self._settings.attempts_max)
        self._access_log = AccessLog(lambda: fleet.config.log)
        self._listen = listen
        self._hosts = self._own_addresses = own_addresses()
        self._hosts_named: tuple[str, ...] = ()

    @property
    def _settings(self) -> Proxy:
        """As they are now: a reload may change them."""
        return self._fleet.config.proxy

    async def handle(self, incoming: web.Request) -> web.StreamResponse:
        """Serve one request; every failure becomes an answer in the shape of the API at hand."""
        path = incoming.path
        request_id = _identified(incoming)
        facts = {"request_id": request_id, "client": incoming.remote, **self._gate.know(incoming)}
        REQUEST.set(facts)  # its task, and so its context, ends with it
        with travel(incoming.method, path, request_id, self._ended) as trip:
            try:
                response = await self._served_for(trip_of(incoming).holder, incoming, trip)
                trip.answered(response.status)
                return response  # noqa: TRY300 - what follows are the failures
            except ClientError as error:
                trip.is_refused(error.why, error.status, str(error))
                return error_response(path, error.status, str(error), retry_after_s=error.retry_after_s)
            except CapacityError as error:
                trip.is_refused(error.why, 503, str(error))
                return error_response(path, 503, str(error), retry_after_s=error.retry_after_s)
            except NoAnswer as error:
                trip.ends(Outcome.NO_ANSWER, 502, str(error))
                return error_response(path, 502, f"no child could answer ({error}); see ollamad's log")
            except ConnectionError:  # a child's are NoAnswer by now: this is the client's, gone while we wrote to it
                trip.ends(Outcome.CLIENT_LEFT)
                raise
            except asyncio.CancelledError:
                trip.ends(Outcome.CLIENT_LEFT)
                raise
            except Exception:  # the edge: a fault of ours is told and logged whole, and costs one request
                trip.ends(Outcome.CRASHED, 500)
                log.exception("request crashed", path=path)
                return error_response(path, 500, f"ollamad failed; its log has the cause, request_id {request_id}")

    def _ended(self, trip: Trip) -> None:
        self._fleet.tallies.ended(trip)
        self._access_log.tell(trip)

    def _allowed_hosts(self) -> frozenset[str]:
        """Names and addresses that clients may call us by; one set for as long as the configuration is the same."""
        named = self._settings.allowed_hosts
        if named is not self._hosts_named:
            self._hosts_named, self._hosts = named, self._own_addresses.union(named)
        return self._hosts

    async def _read(self, incoming: web.Request, trip: Trip) -> _Job:
        if not host_is_allowed(incoming.headers.get("Host", ""), self._listen, self._allowed_hosts()):
            raise ClientError(
                HTTPStatus.FORBIDDEN,
                f"the host name {incoming.host!r} is not allowed here; add it to [proxy] allowed_hosts",
            )
        if not is_forwarded(incoming.path):
            raise ClientError(HTTPStatus.NOT_FOUND, "/debug/ of a child is not for clients; ask the child itself")
        route = route_of(incoming.method, incoming.path)
        trip.key = self._gate.admit(incoming, route)
        if route.body is Body.STREAMED and incoming.can_read_body:
            return _Job(incoming, route, None, Request(route.need), trip.id, trip)
        body = await kept(incoming, self._settings.body_max_bytes)
        self._gate.admit_body(incoming, route, body)
        usual, header = self._fleet.usual_options, self._fleet.config.routing.client_header
        request = self._gate.granted(incoming, request_of(incoming, route, body, usual, header))
        if route.need is Need.RUNNER and request.need is Need.ANY and request.work is not Work.UNLOAD:
            route = CLOUD
        trip.names(request.model)
        return _Job(incoming, route, body, request, trip.id, trip)

    def _served_for(self, holder: Holder | None, incoming: web.Request, trip: Trip) -> Serving:
        """No step more where nobody is asked for a key: there is one for each of 5,000 streams."""
        return self._served(incoming, trip) if holder is None else self._served_until_revoked(holder, incoming, trip)

    async def _served_until_revoked(self, holder: Holder, incoming: web.Request, trip: Trip) -> web.StreamResponse:
        """Read and serve it, until its key is revoked. Raises KeyRevoked where no answer had begun by then."""
        with until_revoked(holder):
            response = await self._served(incoming, trip)
        if holder.revoked:
            trip.ends(Outcome.REVOKED, response.status, REVOKED)
        return response

    async def _served(self, incoming: web.Request, trip: Trip) -> web.StreamResponse:
        """The answer of all children where they are meant as one, else that of one of them."""
        job = await self._read(incoming, trip)
        answer: web.StreamResponse | None = None
        if self._as_one.concerns(job.route, job.incoming.path, job.body):
            answer = await self._as_one.answer(job.incoming, job.route, job.body)
        if answer is None:
            return await self._relayed(job)
        if job.request.work is Work.UNLOAD and job.model is not None and answer.status < HTTPStatus.BAD_REQUEST:
            self._fleet.unloaded(job.model)
        return answer

    async def _relayed(self, job: _Job) -> web.StreamResponse:
        """Try children until one answers; a 5xx of a child is told only when no other does better."""
        attempts_max = self._settings.attempts_max if job.may_go_again else 1
        tried = await self._as_one.lacking(job.model) if self._as_one.may_lack(job.model) else NOBODY
        missed = here = NOBODY
        refused: Refused | None = None
        looked = False
        for left in reversed(range(attempts_max)):
            try:
                async with self._fleet.lease(self._for_others(job, tried, missed), wait=refused is None) as lease:
                    here = frozenset({(lease.child, lease.life)})
                    lease.may_move = self._may_move(left, here, tried | missed)
                    outcome = await self._try(job, lease, may_be_scan=bool(left) and not looked)
                    if outcome is None:
                        looked = True
                        continue
                    tried |= here
            except CapacityError:
                if refused is None:
                    raise
                break
            except NoAnswer as error:
                if not left:
                    raise
                log.warning("request sent again", model=job.model, reason=str(error))
                missed |= here
                continue
            if not isinstance(outcome, Refused):
                return outcome
            refused = outcome
        return refused.response() if refused else error_response(job.incoming.path, 502, "no child could answer")

    def _may_move(self, left: int, here: Tried, before: Tried) -> Callable[[], bool] | None:
        """What tells, when it is asked, whether a request with so many attempts left could be sent to another child."""
        return partial(self._has_another, here | before if before else here) if left else None

    def _has_another(self, than: Tried) -> bool:
        return self._fleet.snapshot().has_another(than)

    def _for_others(self, job: _Job, tried: Tried, missed: Tried) -> Request:
        """The request as it is sent next: to none that refused it, and to one that hung up only where nobody else is.

        A child that hangs up on requests may well answer the probe in between, and would be asked again and again.
        """
        if missed and self._fleet.snapshot().has_another(tried | missed):
            tried |= missed
        return replace(job.request, tried=tried) if tried else job.request

    async def _upset_scan(self, job: _Job, answer: Answer) -> bool:
        """Whether a child says that it lacks a model which is there: its scan of the store was upset.

        A file that goes between its listing and its look fails the whole scan (0.5.4, manifest.go:189), and so requests
        for other models than the one that is changed. `/api/chat` then says 400, the others 404.
        """
        if answer.status not in LACKS or job.route.kind is not Kind.RUN:
            return False
        said = await answer.said()
        if said is None or (answer.status == HTTPStatus.BAD_REQUEST and b"model is required" not in said):
            return False
        return await self._as_one.has(job.model)

    async def _try(self, job: _Job, lease: Lease, *, may_be_scan: bool) -> web.StreamResponse | Refused | None:
        """One attempt on one child; None where the same may well work the next time."""
        added = {
            CHILD_HEADER: lease.child,
            QUEUE_HEADER: str(lease.waited_ms),
            "X-Ollamad-Reason": lease.reason,
        }
        body = streamed(job.incoming) if job.body is None else job.body or None
        outgoing = Outgoing(job.incoming, body, job.route.elsewhere_on_5xx, added, lease.heard, lease.hold, lease.waits)
        job.trip.sent(lease.child, lease.waited_ms / 1000, lease.reason)
        try:
            async with self._relay.open(outgoing, lease.base_url) as answer:
                if isinstance(answer, Refused):
                    self._fleet.refused(lease)
                    said = answer.body[:200].decode(errors="replace")
                    log.warning("child refused", model=job.model, child=lease.child, status=answer.status, body=said)
                    return answer
                if may_be_scan and await self._upset_scan(job, answer):
                    reason = f"status {answer.status} for a model that is there"
                    log.info("request sent again", model=job.model, child=lease.child, reason=reason)
                    return None
                job.trip.begun(answer.status, streamed=answer.streams)
                if answer.status < HTTPStatus.BAD_REQUEST:
                    self._fleet.answered(lease, job.model)
                relayed = await answer.relay()
        except NoAnswer:
            self._fleet.failed(lease)
            raise
        job.trip.relayed(relayed.sent_bytes, relayed.broken)
        if relayed.broken is REVOKED:
            return relayed.response
        if relayed.broken is not None:
            self._fleet.failed(lease)
        elif answer.status < HTTPStatus.BAD_REQUEST:
            job.trip.tally = self._fleet.served(lease, relayed.tail)
        return relayed.response


def _identified(incoming: web.Request) -> str:
    """The request's id, the client's or else one of ours; child and client are told."""
    given = incoming.headers.get(ID_HEADER, "")
    request_id = (given[:REQUEST_ID_MAX] if given.isascii() else "") or f"{random.getrandbits(64):016x}"
    known = trip_of(incoming)
    known.for_client = (*known.for_client, (ID_HEADER, request_id))
    if not given:
        known.for_child = (*known.for_child, (ID_HEADER.encode(), request_id.encode()))
    return request_id
