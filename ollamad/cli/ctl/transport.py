"""HTTP to the daemon over its unix socket, and to the Ollama API over TCP, with the standard library alone."""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ollamad.cli.ctl.errors import CommandError, NoDaemon
from ollamad.control.place import places, shared_folder, why_not_ours

TIMEOUT_S: Final = 10.0
"""For an answer of the daemon, which has them all at hand."""

LINE_MAX_BYTES: Final = 16 * 1024 * 1024
ERROR_FROM: Final = 400

Json = dict[str, Any]


class _UnixConnection(http.client.HTTPConnection):
    """One request over a socket that is connected already."""

    def __init__(self, connected: socket.socket) -> None:
        super().__init__("ollamad")
        self.sock = connected


@dataclass(slots=True)
class Control:
    """The control socket of the daemon that was named, or of the one that is found."""

    named: Path | None
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    timeout_s: float = TIMEOUT_S

    def get(self, path: str) -> Json:
        """One document."""
        return self._ask("GET", path)

    def post(self, path: str, body: Json | None = None) -> Json:
        """One change; gives the answer's document."""
        return self._ask("POST", path, body)

    def stream(self, method: str, path: str) -> Iterator[Json]:
        """The records of an answer as they come, however long that takes. Raises CommandError where it is refused."""
        with _answered(_UnixConnection(self._connect(None)), method, path) as response:
            yield from _records(response)

    def _ask(self, method: str, path: str, body: Json | None = None) -> Json:
        with _answered(_UnixConnection(self._connect(self.timeout_s)), method, path, body) as response:
            return _document(response)

    def _connect(self, timeout_s: float | None) -> socket.socket:
        looked = (self.named,) if self.named else places(self.environ, os.geteuid())
        denied: Path | None = None
        for path in looked:
            try:
                _refuse_a_strangers(path)
                return _connected(path, timeout_s)
            except PermissionError:
                denied = denied or path
            except OSError:  # nothing there, or nobody behind it
                continue
        if denied is not None:
            raise CommandError(_no_permission(denied))
        raise NoDaemon(
            f"no ollamad answers at {' or '.join(map(str, looked))};"
            " start one (ollamad serve, or systemctl start ollamad), or name its socket with --socket"
        )


def _connected(path: Path, timeout_s: float | None) -> socket.socket:
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connected.settimeout(TIMEOUT_S)
        connected.connect(str(path))
        connected.settimeout(timeout_s)
    except BaseException:
        connected.close()
        raise
    return connected


def _refuse_a_strangers(path: Path) -> None:
    """In `/tmp` somebody else may have made the folder that would be ours, to have our commands told to him."""
    folder = shared_folder(os.geteuid())
    if path.parent == folder and (why := why_not_ours(folder, os.geteuid())):
        raise CommandError(f"{folder} {why}, so what answers there is not trusted; name a socket with --socket")


def _no_permission(path: Path) -> str:
    try:
        found = path.stat()
        whose = f" (uid {found.st_uid}, gid {found.st_gid}, mode {found.st_mode & 0o7777:04o})"
    except OSError:
        whose = ""
    return f"no permission to use {path}{whose}: try sudo, or join the group that [control] group names"


@dataclass(slots=True)
class Api:
    """The Ollama API at one address."""

    host: str
    port: int
    tls: bool = False
    key: str | None = None
    """The API key that it asks for."""

    @classmethod
    def of(cls, control: Control) -> Api:
        """That of a daemon's proxy, with a key lent by it. Raises CommandError before it listens."""
        daemon = control.get("/v1/status")["daemon"]
        if daemon["proxy"] is None:
            raise CommandError("ollamad is just starting; try again in a moment")
        api = cls.at(daemon["proxy"])
        api.tls, api.key = bool(daemon.get("tls")), control.get("/v1/key")["key"]
        return api

    @classmethod
    def at(cls, address: str) -> Api:
        """From `127.0.0.1:11434`; an address that means "all of mine" is reached on loopback."""
        host, _, port = address.rpartition(":")
        host = host.strip("[]")
        return cls({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), int(port))

    def ask(self, method: str, path: str, body: Json | None = None) -> tuple[Json, Mapping[str, str]]:
        """One document, and the answer's headers. May take as long as a model takes to load."""
        with _answered(self._connection(), method, path, body, self.key) as response:
            return _document(response), dict(response.getheaders())

    def stream(self, method: str, path: str, body: Json) -> Iterator[Json]:
        """The records of an answer as they come."""
        with _answered(self._connection(), method, path, body, self.key) as response:
            yield from _records(response)

    def _connection(self) -> http.client.HTTPConnection:
        if not self.tls:
            return http.client.HTTPConnection(self.host, self.port)
        import ssl  # noqa: PLC0415 - it takes 15 ms to import, and most daemons speak plain HTTP

        # The certificate is for the name that clients use, and this is an address of this machine that the daemon
        # itself has just named over its own socket: nobody stands between.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return http.client.HTTPSConnection(self.host, self.port, context=context)


@contextmanager
def _answered(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: Json | None = None,
    key: str | None = None,
) -> Iterator[http.client.HTTPResponse]:
    """A good answer. Raises CommandError with the other side's own words for a bad one, or where it breaks off."""
    try:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} if data else {}
        headers |= {"Authorization": f"Bearer {key}"} if key else {}
        connection.request(method, path, data, headers)
        response = connection.getresponse()
        if response.status >= ERROR_FROM:
            raise CommandError(_said(response))
        yield response
    except TimeoutError as error:
        raise CommandError(f"{connection.host} is there, but does not answer in time") from error
    except ConnectionError as error:
        raise NoDaemon(
            f"{connection.host} went away before it had answered; of a service, `systemctl status ollamad` says why"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise CommandError(
            f"the connection to {connection.host} broke off: {str(error) or type(error).__name__}"
        ) from error
    finally:
        connection.close()


def _document(response: http.client.HTTPResponse) -> Json:
    text = response.read()
    if not text.strip():
        return {}
    try:
        found = json.loads(text)
    except ValueError as error:
        raise CommandError(f"what was answered is no JSON: {text[:80]!r}") from error
    return found if isinstance(found, dict) else {"value": found}


def _records(response: http.client.HTTPResponse) -> Iterator[Json]:
    while line := response.readline(LINE_MAX_BYTES):
        if line.strip():
            yield _record(line)


def _record(line: bytes) -> Json:
    try:
        found = json.loads(line)
    except ValueError as error:
        raise CommandError(f"the answer broke off in the middle of {line[:80]!r}") from error
    return found if isinstance(found, dict) else {"value": found}


def _said(response: http.client.HTTPResponse) -> str:
    """The other side's reason, with every problem that it lists."""
    try:
        told = json.loads(response.read())
        error = told["error"]
    except (ValueError, KeyError, TypeError):
        return f"refused with {response.status} {response.reason}"
    text = str(error.get("message", error)) if isinstance(error, dict) else str(error)
    return "\n".join([text, *(f"  {problem}" for problem in told.get("problems", ()))])
