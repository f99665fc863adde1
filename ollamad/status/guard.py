"""Who may see the status listener: whoever has a key for it, where strangers could reach it; by which name of ours."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Middleware

from ollamad.access.holder import Holder, ended_by
from ollamad.access.hosts import host_is_allowed, own_addresses
from ollamad.access.key import Scope
from ollamad.access.keyring import Keyring, admit
from ollamad.access.presented import presented_key
from ollamad.access.refusals import forbidden, unauthorized
from ollamad.config.address import Address
from ollamad.errors import ClientError

OPEN: Final = frozenset({"/healthz", "/readyz"})
"""What load balancers and Kubernetes ask, which have no keys; the answer is yes or no."""

Handle = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Guard:
    """Before every request of the status listener."""

    keyring: Keyring
    listen: Address
    allow_unauthenticated: bool
    allowed_hosts: Callable[[], tuple[str, ...]]
    """Names that this machine is called by, beside its own; a reload may change them."""

    @property
    def asks(self) -> bool:
        """Whether a key is needed. On loopback there are only this machine's users, and its own monitors."""
        return self.keyring.closed and not self.allow_unauthenticated and not self.listen.is_loopback

    def middleware(self) -> Middleware:
        """The guard, as the application takes it."""
        own = own_addresses()

        @web.middleware
        async def guarded(request: web.Request, handler: Handle) -> web.StreamResponse:
            if request.path in OPEN:
                return await handler(request)
            try:
                if not host_is_allowed(request.headers.get("Host", ""), self.listen, own.union(self.allowed_hosts())):
                    raise forbidden("this host name is not allowed here; add it to [proxy] allowed_hosts")
                holder = self._holder(request) if self.asks else None
            except ClientError as error:
                return _refused(error)
            try:
                with ended_by(holder, lambda: _hang_up(request)):
                    return await handler(request)
            finally:
                if holder is not None:
                    holder.leaves()

        return guarded

    def _holder(self, request: web.Request) -> Holder:
        """Whose key it came with, let in. Raises ClientError."""
        presented = presented_key(request.headers, basic=True)
        if presented is None:
            raise unauthorized(
                'an API key with the scope "status" is needed here: send it as Authorization: Bearer KEY,'
                " or as the password of whatever user"
            )
        holder = self.keyring.holder(presented)
        admit(holder, Scope.STATUS)
        return holder


def _hang_up(request: web.Request) -> None:
    """A dashboard that is open asks again, and is told."""
    if request.transport is not None:
        request.transport.abort()


def _refused(error: ClientError) -> web.Response:
    headers = {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
    if error.status == web.HTTPUnauthorized.status_code:
        headers["WWW-Authenticate"] = 'Basic realm="ollamad", charset="UTF-8"'  # browsers ask for it then
    return web.json_response({"error": str(error)}, status=error.status, headers=headers)
