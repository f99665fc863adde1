"""What is true of every request, whatever it asks for: who it is from, whether it is HTTP, whether its page may ask."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus

from aiohttp import web

from ollamad.proxy.cors import Origins
from ollamad.proxy.exchange import Sent
from ollamad.proxy.forwarded import TrustedProxies
from ollamad.proxy.shapes import error_response
from ollamad.proxy.shared import TRIP, Shared, Trip

Handle = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Front:
    """Answers every request: who it is from, whether its page may ask, and then what the handler says."""

    def __init__(self, handle: Handle, shared: Shared) -> None:
        self._handle = handle
        self._shared = shared
        self._settings = shared.settings
        self._origins = Origins(self._settings.allowed_origins)
        self._proxies = TrustedProxies(self._settings.trusted_proxies)

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """One request. Whatever it costs in kept bytes is given back."""
        assert isinstance(request, web.Request)  # noqa: S101 - our listener makes no others
        self._keep_up()
        forwarding = self._proxies.read(request.remote or "", request.scheme, request.raw_headers)
        if forwarding.client != request.remote:
            request = request.clone(remote=forwarding.client)
        trip = request[TRIP] = Trip(for_child=forwarding.fields)
        try:
            response = await self._answered(request, trip)
        finally:
            self._shared.let_go(trip)
        if not isinstance(response, Sent):
            response.headers.update(trip.for_client)
            response.headers.setdefault("Server", "ollamad")
            if not request.content.is_eof():
                response.force_close()
        return response

    def _keep_up(self) -> None:
        """Go by the configuration as it is now."""
        settings = self._shared.settings
        if settings is not self._settings:
            self._settings = settings
            self._origins = Origins(settings.allowed_origins)
            self._proxies = TrustedProxies(settings.trusted_proxies)

    async def _answered(self, request: web.Request, trip: Trip) -> web.StreamResponse:
        if (refusal := _refusal(request)) is not None:
            return refusal
        ruling = self._origins.rule(request.method, request.headers.get("Origin", ""), request.headers.get("Host", ""))
        if not ruling.allowed:
            return error_response(
                request.path,
                HTTPStatus.FORBIDDEN,
                f"pages of {request.headers.get('Origin')} may not call this; add it to [proxy] allowed_origins",
            )
        trip.for_client = ruling.fields
        if ruling.preflight:
            return web.Response(status=HTTPStatus.NO_CONTENT)
        return await self._handle(request)


def _refusal(request: web.Request) -> web.Response | None:
    """The answer to what no child is asked, whatever the path. Nothing behind it on its connection is believed."""
    coding = request.headers.getall("Transfer-Encoding", [])
    expected = request.headers.get("Expect", "100-continue")
    if coding and [value.lower() for value in coding] != ["chunked"]:
        status, reason = HTTPStatus.BAD_REQUEST, "of transfer codings only chunked, once, is understood"
    elif request.method in {"CONNECT", "TRACE"}:
        status, reason = HTTPStatus.METHOD_NOT_ALLOWED, f"{request.method} is not for this server"
    elif expected.lower() != "100-continue":
        status, reason = HTTPStatus.EXPECTATION_FAILED, f"can't meet the expectation {expected!r}"
    else:
        return None
    response = error_response(request.path, status, reason)
    response.force_close()
    return response
