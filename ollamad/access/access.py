"""Keys and certificates as the daemon holds them: read at start, at a reload, and whenever a file has changed."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Final

import structlog

from ollamad.access.certificates import Certificates
from ollamad.access.file import read_keys, why_not_changeable
from ollamad.access.keyring import Keyring
from ollamad.config.checks import expand
from ollamad.config.schema import Config, Proxy, Status
from ollamad.errors import ConfigError, Problem, gathering

log = structlog.get_logger()

_NOTHING: Final = ()


class Access:
    """Who may do what, for all listeners of one daemon."""

    def __init__(self, config: Config, home: str) -> None:
        """Read all files. Raises ConfigError. `home` is what `~` stands for."""
        named = config.access.keys_file
        self.keyring = Keyring(expand(named, home) if named else None, config.access.keys_max)
        self._look_interval_s = config.access.look_interval_s
        self._fresh: tuple[Callable[[], None], ...] = _NOTHING
        self._told = ""
        found: list[Problem] = []
        with gathering(found):
            self._proxy = _certificates("proxy", config.proxy, home)
        with gathering(found):
            self._status = _certificates("status", config.status, home)
        with gathering(found):
            self.keyring.read()()
        if found:
            raise ConfigError(tuple(found))
        for one in filter(None, (self._proxy, self._status)):
            one.warn(one.doubt())

    @property
    def proxy_tls(self) -> ssl.SSLContext | None:
        """For the listener for clients; None where it speaks plain HTTP."""
        return None if self._proxy is None else self._proxy.context

    @property
    def status_tls(self) -> ssl.SSLContext | None:
        """For the listener for monitors."""
        return None if self._status is None else self._status.context

    def reread(self, reread: Callable[[], Config]) -> Callable[[], Config]:
        """The same, which reads our files, too: one that can't be used is a reload's problem. For a thread."""

        def both() -> Config:
            config = reread()
            self._fresh = self._read()
            return config

        return both

    def renew(self) -> None:
        """Go by what `reread` has read."""
        fresh, self._fresh = self._fresh, _NOTHING
        for take in fresh:
            take()

    async def run(self) -> None:
        """Take changed files into use until cancelled."""
        while True:
            await asyncio.sleep(self._look_interval_s)
            await self.look()

    async def look(self) -> None:
        """Once. What can't be used is told once, and what was in use stays."""
        told = []
        try:
            await self.keyring.look()
        except ConfigError as error:
            told.append(str(error))
        for one in filter(None, (self._proxy, self._status)):
            try:
                if await asyncio.to_thread(one.signature) != one.seen:
                    (await asyncio.to_thread(one.read))()
            except ConfigError as error:
                told.append(str(error))
        text = "; ".join(told)
        if text and text != self._told:
            log.error("changed file refused", reason=text, in_use="what was in use before")
        self._told = text

    def _read(self) -> tuple[Callable[[], None], ...]:
        return tuple(one.read() for one in (self.keyring, self._proxy, self._status) if one is not None)


def examine(config: Config, home: str) -> tuple[list[Problem], list[Problem]]:
    """What `Access` would refuse of the files that are named; and what it takes, but somebody suffers from."""
    found: list[Problem] = []
    doubts: list[Problem] = []
    for table, listener in (("proxy", config.proxy), ("status", config.status)):
        with gathering(found):
            if (one := _certificates(table, listener, home)) and (why := one.doubt()):
                doubts.append(Problem(f"{table}.tls_certificate", why, listener.tls_certificate))
    if config.access.keys_file:
        path = expand(config.access.keys_file, home)
        with gathering(found):
            read_keys(path)
        if why := why_not_changeable(path):
            doubts.append(Problem("access.keys_file", why, config.access.keys_file))
    return found, doubts


def _certificates(table: str, listener: Proxy | Status, home: str) -> Certificates | None:
    if not listener.tls_certificate:
        return None
    return Certificates(table, expand(listener.tls_certificate, home), expand(listener.tls_key, home))
