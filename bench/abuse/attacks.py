"""What strangers try on a listener, and what each gets: status, seconds, and memory of ollamad that it costs.

`python -m bench.abuse.attacks [--json PATH]` prints the table of docs/SECURITY.md. `tests/integration/test_attacks.py`
holds every one to what it should get.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import uvloop

from bench.relay import parties
from bench.relay.load import many_files
from bench.relay.parties import Party

PATIENCE_S: Final = 15.0
LOCAL: Final = b"Host: localhost\r\n"
KEYS_TRIED: Final = 200
MANY: Final = 250
"""Connections of one attacker."""
OPEN: Final[dict[str, dict[str, Any]]] = {
    "proxy": {
        "header_timeout_s": 1.0,
        "body_timeout_s": 1.0,
        "linger_s": 0.2,
        "client_stall_timeout_s": 1.0,
        "body_max_bytes": 1024**2,
        "connections_per_client_max": 200,
        "trusted_proxies": [],
    },
    "status": {"models_max": 5, "connections_max": 200},
}
"""Bounds that are reached within a second, in place of those for people."""
CLOSED: Final[dict[str, dict[str, Any]]] = {"proxy": {"requests_per_client_per_minute": 150, "trusted_proxies": []}}
"""With keys; `access.keys_file` is added by whoever runs it."""


@dataclass(frozen=True, slots=True)
class Attack:
    """One of them."""

    name: str
    gets: str
    """A pattern of what it may get."""
    bound: str
    """The key of the configuration that bounds it, or what else does."""
    run: Callable[[Party], Awaitable[str]]
    closed: bool = False
    """Whether it is made on a listener that asks for keys."""


async def exchange(port: int, *pieces: bytes, pause_s: float = 0.0) -> bytes:
    """Send pieces on a connection of their own; gives what comes until the other side closes it, 64 KiB at most."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(PATIENCE_S):
            with suppress(ConnectionError):
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                    if pause_s:
                        await asyncio.sleep(pause_s)
            with suppress(ConnectionError):
                return await reader.read(65_536)
            return b""
    finally:
        writer.transport.abort()


def status_of(answer: bytes) -> str:
    """The status of an answer, or that there is none."""
    found = re.match(rb"HTTP/1\.[01] ([0-9]{3}) ", answer)
    return found[1].decode() if found else "cut"


def _sends(*pieces: bytes, pause_s: float = 0.0, status: bool = False) -> Callable[[Party], Awaitable[str]]:
    async def run(party: Party) -> str:
        port = party.status_port if status else None
        return status_of(await exchange(port or party.port, *pieces, pause_s=pause_s))

    return run


def _get(path: bytes = b"/api/version", fields: bytes = b"", host: bytes = LOCAL) -> bytes:
    return b"GET %b HTTP/1.1\r\n%b%bConnection: close\r\n\r\n" % (path, host, fields)


def _post(path: bytes, body: bytes, fields: bytes = b"") -> bytes:
    head = b"POST %b HTTP/1.1\r\n%b%bConnection: close\r\nContent-Length: %d\r\n\r\n"
    return head % (path, LOCAL, fields, len(body)) + body


def _each(found: Counter[str]) -> str:
    return ", ".join(f"{count}x {status}" for status, count in sorted(found.items()))


async def _crowd(party: Party) -> str:
    """Half a head on each of many connections, while somebody else asks something."""
    half = b"GET / HTTP/1.1\r\nHost: local"
    async with asyncio.TaskGroup() as tasks:
        slow = [tasks.create_task(exchange(party.port, half)) for _ in range(MANY // 2)]
        good = tasks.create_task(exchange(party.port, _get()))
    assert status_of(good.result()) == "200"
    return _each(Counter(status_of(one.result()) for one in slow))


async def _silent(party: Party) -> str:
    """More connections than one address may have, each with an answer that takes its time."""
    streams = [await asyncio.open_connection("127.0.0.1", party.port) for _ in range(MANY)]
    found: Counter[str] = Counter()
    for _, writer in streams:
        writer.write(_post(b"/api/generate?chunks=1&first_ms=1500", b"{}"))
    for reader, writer in streams:
        async with asyncio.timeout(PATIENCE_S):
            found[status_of(await reader.read(65_536))] += 1
        writer.transport.abort()
    return _each(found)


async def _endless(party: Party) -> str:
    """A body in chunks that never ends."""
    head = b"POST /api/chat HTTP/1.1\r\n%bTransfer-Encoding: chunked\r\n\r\n" % LOCAL
    return status_of(await exchange(party.port, head, *[b"10000\r\n%b\r\n" % (b"x" * 65_536)] * 64))


async def _drip(party: Party) -> str:
    """A body byte by byte."""
    head = b"POST /api/chat HTTP/1.1\r\n%bContent-Length: 100000\r\n\r\n" % LOCAL
    return status_of(await exchange(party.port, head, *[b"x"] * 40, pause_s=0.05))


async def _series(party: Party) -> str:
    """Names of models that nobody has."""
    await exchange(party.port, _post(b"/api/show", b'{"model": "the-first"}'))  # for what a first request begins
    before = (await parties.get(party.status_port or 0, "/metrics")).count(b"\n")
    for number in range(300):
        await exchange(party.port, _post(b"/api/show", b'{"model": "invented-%d"}' % number))
    after = (await parties.get(party.status_port or 0, "/metrics")).count(b"\n")
    return f"{after - before} series"


async def _guess(party: Party) -> str:
    """Keys that are none."""
    found: Counter[str] = Counter()
    for number in range(KEYS_TRIED):
        guess = b"Authorization: Bearer olk_aaaaaaaa_%052d\r\n" % number
        found[status_of(await exchange(party.port, _get(fields=guess)))] += 1
    return _each(found)


async def _inject(party: Party) -> str:
    """What would end a line of the log, or colour the terminal that shows it."""
    path = b"/x%0a%7b%22event%22:%22forged%22%7d%1b[2J"
    return status_of(await exchange(party.port, _get(path, fields=b"X-Request-Id: a\xc2\x85b\xe2\x80\xae\r\n")))


async def _long_id(party: Party) -> str:
    """What is written into every line about a request, and echoed."""
    answer = await exchange(party.port, _get(fields=b"X-Request-Id: %b\r\n" % (b"i" * 10_000)))
    found = re.search(rb"X-Request-Id: (i+)\r\n", answer)
    return f"{status_of(answer)}, {len(found[1]) if found else 0} kept"


async def _split(party: Party) -> str:
    """A header of ours in what is echoed."""
    answer = await exchange(party.port, _get(fields=b"X-Request-Id: a%0d%0aSet-Cookie: owned=1\x85\r\n"))
    assert b"\nSet-Cookie" not in answer
    return status_of(answer)


ATTACKS: Final = (
    Attack("10,000 header fields", "400", "proxy.header_fields_max", _sends(_get(fields=b"X: y\r\n" * 10_000))),
    Attack(
        "a header field of 1 MiB", "400", "proxy.header_max_bytes", _sends(_get(fields=b"X: %b\r\n" % (b"y" * 2**20)))
    ),
    Attack("a URL of 1 MiB", "400|414", "proxy.header_max_bytes", _sends(_get(b"/" + b"a" * 2**20))),
    Attack(
        "a body of 10 GiB, announced",
        "413",
        "proxy.body_max_bytes",
        _sends(b"POST /api/chat HTTP/1.1\r\n%bContent-Length: 10737418240\r\n\r\n" % LOCAL),
    ),
    Attack("a body in chunks without end", "413|cut", "proxy.body_max_bytes", _endless),
    Attack("a body that trickles", "408|cut", "proxy.body_timeout_s, body_rate_min_bytes_s", _drip),
    Attack("125 half heads (slowloris)", "125x 408", "proxy.header_timeout_s", _crowd),
    Attack("250 connections of one address", "200x 200, 50x 503", "proxy.connections_per_client_max", _silent),
    Attack(
        "JSON nested 500,000 deep", "[245]..", "the parser's own depth", _sends(_post(b"/api/chat", b"[" * 500_000))
    ),
    Attack(
        "1 GiB of zeros as 1 MB of gzip",
        "[245]..",
        "nothing is unpacked; proxy.body_max_bytes",
        _sends(_post(b"/api/chat", b"\x1f\x8b" + b"\0" * 1_000_000, b"Content-Encoding: gzip\r\n")),
    ),
    Attack(
        "a page whose name points here (DNS rebinding)",
        "403",
        "proxy.allowed_hosts",
        _sends(_get(host=b"Host: evil.example\r\n")),
    ),
    Attack(
        "the same on the status listener",
        "403",
        "proxy.allowed_hosts",
        _sends(_get(b"/status", host=b"Host: evil.example\r\n"), status=True),
    ),
    Attack(
        "a form of a foreign page (CSRF)",
        "403",
        "proxy.allowed_origins",
        _sends(_post(b"/api/pull", b'{"model": "x"}', b"Origin: https://evil.example\r\nContent-Type: text/plain\r\n")),
    ),
    Attack(
        "a foreign page's preflight",
        "403",
        "proxy.allowed_origins",
        _sends(_get(fields=b"Origin: https://evil.example\r\n").replace(b"GET", b"OPTIONS")),
    ),
    Attack(
        "two lengths (smuggling)",
        "400",
        "refused",
        _sends(b"POST /x HTTP/1.1\r\n%bContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /y" % LOCAL),
    ),
    Attack("a header field within another (splitting)", "200", "bytes are no line ends once they are parsed", _split),
    Attack(
        "an address elsewhere (open proxy)",
        "[24]..",
        "the path alone counts",
        _sends(_get(b"http://169.254.169.254/latest/meta-data/")),
    ),
    Attack("CONNECT", "400|405", "refused", _sends(b"CONNECT evil.example:443 HTTP/1.1\r\n%b\r\n" % LOCAL)),
    Attack("a Go server's profiler", "404", "/debug/ is not passed on", _sends(_get(b"/debug/pprof/heap"))),
    Attack(
        "a line's end and an escape in a path and an id (log injection)", "404|200", "one line of JSON each", _inject
    ),
    Attack("an id of 10,000 characters", "200, 128 kept", "cut", _long_id),
    Attack(
        "a sandboxed frame (Origin: null)",
        "403",
        "proxy.allowed_origins",
        _sends(_post(b"/api/generate", b"{}", b"Origin: null\r\n")),
    ),
    Attack("300 invented models", "[0-9] series", "status.models_max", _series),
    # 429 to an address that has just guessed at keys.
    Attack("no key", "401|429", "access.keys_file", _sends(_get()), closed=True),
    Attack(
        "200 guessed keys",
        "1..x 401, [45].x 429",
        "proxy.requests_per_client_per_minute",
        _guess,
        closed=True,
    ),
)


async def measure(folder: Path) -> list[dict[str, Any]]:
    """Make them all; gives the rows of the table."""
    found = []
    for closed in (False, True):
        tables = {**(CLOSED if closed else OPEN), "control": {"socket": str(folder / "control.sock")}}
        if closed:
            tables["access"] = {"keys_file": str(folder / "keys.toml")}
        async with parties.ollamad(folder, tables=tables) as party:
            found += [await _measured(attack, party) for attack in ATTACKS if attack.closed is closed]
    return found


async def _measured(attack: Attack, party: Party) -> dict[str, Any]:
    before, began_s = party.rss_bytes(), time.monotonic()
    got = await attack.run(party)
    took_s, grown = time.monotonic() - began_s, party.rss_bytes() - before
    return {"attack": attack.name, "gets": got, "seconds": round(took_s, 2), "bytes": grown, "bound": attack.bound}


def main() -> None:
    """Make them all, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    many_files()
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(measure(Path(folder)))
    print("| attack | gets | seconds | memory | bounded by |\n|---|---|---|---|---|")
    for row in found:
        memory = f"{row['bytes'] / 1024**2:+.1f} MiB"
        print(f"| {row['attack']} | {row['gets']} | {row['seconds']} | {memory} | `{row['bound']}` |")
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
