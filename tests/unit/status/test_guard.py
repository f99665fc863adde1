"""Who may see the status listener, by which name, and how many at once."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from ollamad.access.file import write_keys
from ollamad.access.key import ENTROPY_BYTES, Grant, Scope, mint
from ollamad.access.keyring import Keyring
from ollamad.config.address import Address
from ollamad.config.schema import Status
from ollamad.fleet.models_view import ModelsView
from ollamad.status import listener
from ollamad.status.app import status_runner
from ollamad.status.board import Board
from ollamad.status.guard import Guard
from tests.support.showcase import Showcase

LOOPBACK, WIDE = Address("127.0.0.1", 1), Address("0.0.0.0", 1)
MODELS = ModelsView("shared", pulls=(), copies=(), ensure=(), preload=(), sync=None)
PATHS = ["/", "/status", "/metrics", "/status.schema.json", "/events", "/nothing"]


class Rings:
    """Two keys, one for this listener and one not."""

    def __init__(self, folder: Path) -> None:
        now = datetime.now(UTC)
        one, self.good, key = mint(Grant(name="prometheus", scopes=(Scope.STATUS,)), b"a" * ENTROPY_BYTES, now)
        two, self.other, other = mint(Grant(name="chat"), b"b" * ENTROPY_BYTES, now)
        write_keys(folder / "keys.toml", {one: key, two: other})
        self.ring = Keyring(folder / "keys.toml", keys_max=9)
        self.ring.read()()


@asynccontextmanager
async def serving(guard: Guard | None, connections_max: int = 512) -> AsyncIterator[int]:
    show = Showcase()
    show.fill()
    runner = status_runner(
        show.look, lambda: MODELS, lambda: "page\n", Board(show.look, show.tallies, Status()), guard, connections_max
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def ask(port: int, path: str, headers: dict[str, str] | None = None) -> tuple[int, str, str]:
    url = f"http://127.0.0.1:{port}{path}"
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
        body = "" if answer.content_type == "text/event-stream" else await answer.text()
        return answer.status, body, answer.headers.get("WWW-Authenticate", "")


@pytest.fixture
def rings(tmp_path: Path) -> Rings:
    return Rings(tmp_path)


@pytest.mark.parametrize("path", PATHS)
async def test_where_strangers_reach_it_a_key_is_needed(rings: Rings, path: str) -> None:
    async with serving(Guard(rings.ring, WIDE, allow_unauthenticated=False, allowed_hosts=tuple)) as port:
        status, body, asked = await ask(port, path)
        assert status == 401
        assert '"status"' in body.replace("\\", "")
        assert asked.startswith("Basic "), "a browser asks for it then"
        assert (await ask(port, path, {"Authorization": f"Bearer {rings.other}"}))[0] == 403
        assert (await ask(port, path, {"Authorization": "Bearer olk_x"}))[0] == 401
        basic = base64.b64encode(f"whoever:{rings.good}".encode()).decode()
        for word in (f"Bearer {rings.good}", f"Basic {basic}"):
            assert (await ask(port, path, {"Authorization": word}))[0] == (404 if path == "/nothing" else 200)
    assert all(not rings.ring.usage(name).in_flight for name in rings.ring.keys)


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_probes_need_no_key(rings: Rings, path: str) -> None:
    async with serving(Guard(rings.ring, WIDE, allow_unauthenticated=False, allowed_hosts=tuple)) as port:
        assert (await ask(port, path, {"Host": "10.0.0.7"}))[0] == 200


@pytest.mark.parametrize(("listen", "allow"), [(LOOPBACK, False), (WIDE, True)])
async def test_on_loopback_or_by_the_operator_s_word_nobody_is_asked(
    rings: Rings,
    listen: Address,
    allow: bool,  # noqa: FBT001
) -> None:
    async with serving(Guard(rings.ring, listen, allow_unauthenticated=allow, allowed_hosts=tuple)) as port:
        assert (await ask(port, "/metrics"))[0] == 200


async def test_a_page_that_points_its_own_name_here_sees_nothing(rings: Rings) -> None:
    async with serving(
        Guard(rings.ring, LOOPBACK, allow_unauthenticated=False, allowed_hosts=lambda: ("mon.x",))
    ) as port:
        assert (await ask(port, "/status", {"Host": "evil.example"}))[0] == 403
        for host in ("localhost:1", "127.0.0.1", "mon.x"):
            assert (await ask(port, "/status", {"Host": host}))[0] == 200


async def raw(port: int, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    async with asyncio.timeout(10):
        found = await reader.read()
    writer.close()
    return found


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nAuthorization: Bearer olk_geheim\x00\r\n\r\n",
        b"GET / HTTP/1.1\r\nAuthorization Bearer olk_geheim\r\n\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nExpect: \xe5olk_geheim\r\n\r\n",
        b"nonsense olk_geheim\r\n\r\n",
    ],
)
async def test_what_is_no_request_is_400_in_one_line_and_quoted_nowhere(
    data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with capture_logs() as logged:
        async with serving(None) as port:
            answer = await raw(port, data)
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.0 400"))
    assert b"geheim" not in answer
    assert "geheim" not in str(logged) + caplog.text


async def test_a_head_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "HEAD_S", 0.1)
    async with serving(None) as port:
        assert await raw(port, b"") == b""
        assert await raw(port, b"GET / HTTP/1.1\r\nHos") == b""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.readuntil(b"true}")
        writer.write(b"GET /heal")
        assert await reader.read() == b""
        writer.close()


async def test_one_connection_too_many_is_cut() -> None:
    async with serving(None, connections_max=1) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.readuntil(b"true}")
        assert await raw(port, b"") == b""
        writer.close()
        await writer.wait_closed()
        assert (await ask(port, "/healthz"))[0] == 200


async def test_a_fault_of_ours_is_500_and_told_to_the_log_alone() -> None:
    def broken() -> str:
        raise ZeroDivisionError("geheim")

    show = Showcase()
    runner = status_runner(show.look, lambda: MODELS, broken, Board(show.look, show.tallies, Status()))
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        with capture_logs() as logged:
            status, body, _ = await ask(runner.addresses[0][1], "/metrics")
        assert status == 500
        assert "geheim" not in body
        assert [entry["event"] for entry in logged] == ["status fault"]
    finally:
        await runner.cleanup()


async def test_a_dashboard_whose_key_is_revoked_is_hung_up_on_and_then_refused(rings: Rings) -> None:
    async with serving(Guard(rings.ring, WIDE, allow_unauthenticated=False, allowed_hosts=tuple)) as port:
        headers = {"Authorization": f"Bearer {rings.good}"}
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            async with session.get("/events", headers=headers) as events:
                await events.content.readline()
                assert (await rings.ring.revoke("prometheus"))[2] == 1
                with pytest.raises(aiohttp.ClientError):
                    await events.read()
            async with session.get("/status", headers=headers) as answer:
                assert answer.status == 401
