"""The addresses that ollamad listens on: opened by itself, or handed over by systemd."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Final

import psutil
import structlog
from aiohttp import web

from ollamad.access.site import site_of
from ollamad.config.address import Address, parse_address
from ollamad.errors import ConfigError, Problem, StartError

log = structlog.get_logger()

BACKLOG: Final = 4096
"""Clients that may connect at once before one of them is looked at; the kernel has a limit of its own (somaxconn)."""


@dataclass(frozen=True, slots=True)
class Door:
    """One listener, open."""

    address: Address
    """Where it can be reached, a port that the kernel chose included."""
    outlives_us: bool
    """systemd holds it, too: who connects while nobody answers waits for our successor."""
    sites: tuple[web.BaseSite, ...]

    async def shut(self) -> None:
        """Take no more connections, where they can wait; elsewhere they would be refused, which tells them less."""
        if self.outlives_us:
            for site in self.sites:
                await site.stop()


@dataclass(frozen=True, slots=True)
class Listening:
    """Where the daemon can be reached, ports that the kernel chose included."""

    proxy: Address
    status: Address
    proxy_tls: bool = False
    """Whether it is https that is spoken there."""
    status_tls: bool = False

    @property
    def proxy_url(self) -> str:
        """For clients."""
        return _url(self.proxy, tls=self.proxy_tls)

    @property
    def status_url(self) -> str:
        """Where a browser shows what it is doing."""
        return _url(self.status, tls=self.status_tls)


def address_of(key: str, text: str, inherited: Sequence[socket.socket]) -> Address:
    """Where a listener will be: a socket that is handed over goes before the configuration's address.

    Raises ConfigError for one that others can reach where the configuration's can't be: what is checked of an address,
    whether strangers may use it, is checked of the configuration's.
    """
    wanted = parse_address(text)
    found = [Address(*one.getsockname()[:2]) for one in inherited]
    for address in found:
        if wanted.is_loopback and not address.is_loopback:
            why = f"but systemd hands over {address}, which others can reach: say so here, too"
            raise ConfigError((Problem(key, why, text, "ollamad.socket"),))
    if found and str(found[0]) != text:
        log.info("systemd's socket is used", address=str(found[0]), instead_of=text, key=key)
    return found[0] if found else wanted


async def open_door(
    runner: web.BaseRunner,
    key: str,
    address: Address,
    inherited: Sequence[socket.socket] = (),
    tls: ssl.SSLContext | None = None,
) -> Door:
    """Open one listener. Raises StartError where the address can't be had, naming who has it."""
    await runner.setup()
    sites = [site_of(runner, one, tls, backlog=BACKLOG) for one in inherited]
    with _address_of_ours(address, key):
        for site in sites or [site_of(runner, address, tls, backlog=BACKLOG)]:
            await site.start()
    host, port = runner.addresses[0][:2]
    return Door(Address(host, port), bool(inherited), tuple(sites))


def why_never_ours(address: Address) -> str | None:
    """Why this user can't listen here, whoever else does: not this machine's, or a port for root. None where he can.

    Binds without listening, so that nobody who starts meanwhile is in the way of it, nor it in theirs.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address.host, address.port))
    except OSError as error:
        return None if error.errno == errno.EADDRINUSE else f"can't be listened on: {error.strerror or error}"
    return None


@asynccontextmanager
async def answering(protocol: Callable[[], asyncio.Protocol], key: str, text: str) -> AsyncIterator[None]:
    """Answer by this protocol meanwhile, where an address is set. Raises StartError where it can't be had."""
    if not text:
        yield
        return
    address = parse_address(text)
    with _address_of_ours(address, key):
        server = await asyncio.get_running_loop().create_server(protocol, address.host, address.port)
    async with server:
        yield


@contextmanager
def _address_of_ours(address: Address, key: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        code = error.errno or 0  # its text is Python's as well as the kernel's
        why = os.strerror(code).lower() if code in errno.errorcode else str(error)
        holder = _holder(address.port)
        raise StartError(
            f"can't listen on {address} ([{key.replace('.', '] ')}): {why}{holder};"
            f" stop that, or choose another address, such as --set {key}={Address(address.host, address.port + 1)}"
        ) from error


def _holder(port: int) -> str:
    """` (pid 123, ollama)` for who listens on a port, where this user may know."""
    try:
        pids = {
            connection.pid
            for connection in psutil.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port
        }
        return "".join(f" (pid {pid}, {psutil.Process(pid).name()})" for pid in sorted(filter(None, pids)))
    except psutil.Error:
        return ""


def _url(address: Address, *, tls: bool) -> str:
    return f"http{'s' if tls else ''}://{address}"
