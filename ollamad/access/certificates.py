"""TLS for a listener, whose certificate may be renewed while it serves.

Connections that are made later get the newer certificate; those that are open keep theirs. asyncio holds on to one
context for as long as it listens, so that one hands every handshake over to the context of the day.
"""

from __future__ import annotations

import os
import ssl
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from ollamad.access.file import signature
from ollamad.access.handshake import why_not_believed
from ollamad.errors import ConfigError, Problem

log = structlog.get_logger()

MINIMUM: Final = ssl.TLSVersion.TLSv1_2
"""Older ones are broken (RFC 8996)."""


class Certificates:
    """The certificate and the key of one listener."""

    def __init__(self, table: str, certificate: Path, key: Path) -> None:
        """Raises ConfigError where they can't be used. `table` is the listener's in the configuration."""
        self._table = table
        self._certificate = certificate
        self._key = key
        self._seen: tuple[object, ...] = ()
        self.context = self._load()
        """What to listen with; it stays the same one."""
        self._now = self.context
        self.context.sni_callback = self._hand_over
        self._seen = self.signature()

    def signature(self) -> tuple[object, ...]:
        """What changes when one of the files does; may block."""
        return signature(self._certificate), signature(self._key)

    @property
    def seen(self) -> tuple[object, ...]:
        """The signature of those in use."""
        return self._seen

    def read(self) -> Callable[[], None]:
        """Read the files, which may block; gives what takes them into use. Raises ConfigError."""
        seen = self.signature()
        fresh = self._load()
        why = why_not_believed(fresh, self._certificate)
        return lambda: self._take(fresh, seen, why)

    def doubt(self) -> str | None:
        """Why clients won't believe the certificate that is in use, whoever signed it: it has expired, say. May block.

        It is used all the same: a client may have been told not to look, and there is none better.
        """
        return why_not_believed(self._now, self._certificate)

    def warn(self, why: str | None) -> None:
        """Tell the log of a doubt, if there is one."""
        if why:
            log.warning("clients refuse the certificate", listener=self._table, file=str(self._certificate), reason=why)

    def _take(self, fresh: ssl.SSLContext, seen: tuple[object, ...], doubt: str | None) -> None:
        if seen != self._seen:
            log.info("certificate renewed", listener=self._table, file=str(self._certificate))
            self._now, self._seen = fresh, seen
            self.warn(doubt)

    def _hand_over(self, connection: ssl.SSLObject, _name: str | None, _asked: ssl.SSLContext) -> None:
        """For each handshake, with or without a server's name in it."""
        connection.context = self._now

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = MINIMUM
        context.set_alpn_protocols(["http/1.1"])
        self._refuse_an_open_key()
        for key, path in (("tls_certificate", self._certificate), ("tls_key", self._key)):
            if not os.access(path, os.R_OK):
                why = "can't be read by this user" if path.exists() else "is not there"
                raise ConfigError((Problem(f"{self._table}.{key}", why, str(path)),))
        try:
            context.load_cert_chain(self._certificate, self._key, password=_no_passphrase)
        except (ssl.SSLError, OSError, ValueError) as error:
            why = f"is no certificate with {self._key} as its key, both PEM, without a passphrase: {_reason(error)}"
            raise ConfigError((Problem(f"{self._table}.tls_certificate", why, str(self._certificate)),)) from error
        return context

    def _refuse_an_open_key(self) -> None:
        try:
            mode = stat.S_IMODE(self._key.stat().st_mode)
        except OSError:
            return  # told by whoever opens it
        if mode & 0o007:
            why = f"is open to every user (mode {mode:04o}): chmod 600 {self._key}, or 640 for a group of its own"
            raise ConfigError((Problem(f"{self._table}.tls_key", why, str(self._key)),))


def _no_passphrase() -> str:
    """Else OpenSSL would ask for one on the terminal, and a daemon would wait for ever."""
    raise ValueError("the key has a passphrase; take it off with: openssl pkey -in KEY -out NEW")


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", None) or error).lower().replace("_", " ")
