"""Who can reach a listener, and whether that was meant: keys, TLS files, and an address beyond this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from ollamad.config.address import parse_address
from ollamad.config.schema import Config, Proxy, Status
from ollamad.errors import Problem

Report = Callable[[str, object, str], Problem]


def check_exposure(config: Config, problem: Report, expand: Callable[[str], Path]) -> Iterator[Problem]:
    """Every contradiction, and every address that is open to strangers without anybody having said so."""
    keys = bool(config.access.keys_file)
    listeners: tuple[tuple[str, Proxy | Status], ...] = (("proxy", config.proxy), ("status", config.status))
    for table, listener in listeners:
        if not keys and not listener.allow_unauthenticated and _is_wide(listener.listen):
            yield problem(f"{table}.listen", listener.listen, _open_to_strangers(table))
        yield from _tls(table, listener, problem, expand)
    if keys and config.proxy.allow_unauthenticated:
        both = "says that nobody needs a key, and access.keys_file that everybody does: take one of them away"
        yield problem("proxy.allow_unauthenticated", True, both)  # noqa: FBT003 - the value that was set
    if keys:
        yield from _path("access.keys_file", config.access.keys_file, problem, expand)


def _tls(table: str, listener: Proxy | Status, problem: Report, expand: Callable[[str], Path]) -> Iterator[Problem]:
    pair = {f"{table}.tls_certificate": listener.tls_certificate, f"{table}.tls_key": listener.tls_key}
    missing = [key for key, path in pair.items() if not path]
    for key, path in pair.items():
        if path and missing:
            yield problem(key, path, f"needs {missing[0]}, too")
        elif path:
            yield from _path(key, path, problem, expand)


def _path(key: str, text: str, problem: Report, expand: Callable[[str], Path]) -> Iterator[Problem]:
    if "\0" in text:
        yield problem(key, text, "holds a NUL character, which no path can")
    elif not expand(text).is_absolute():
        yield problem(key, text, "must be an absolute path, or start with ~")


def _is_wide(listen: str) -> bool:
    try:
        return not parse_address(listen).is_loopback
    except ValueError:  # told by another check
        return False


def _open_to_strangers(table: str) -> str:
    done = "use it, and delete models" if table == "proxy" else "see what this machine does"
    return (
        f"lets whoever reaches this address {done}: set access.keys_file and make keys with `ollamactl key create`,"
        f" or say {table}.allow_unauthenticated = true, or listen on 127.0.0.1"
    )
