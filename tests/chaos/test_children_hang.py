"""Children that answer their probes and get nothing done: the runner goes first, then the child, then its GPU."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from pathlib import Path
from typing import Any, Final

import aiohttp

from tests.support.daemon import Daemon, Daemons, alive, runners_of, send_signal, until
from tests.support.orders import odd
from tests.support.real_ollama import RECITE
from tests.support.reciting import WORDS, recitation

IMPATIENT: Final[dict[str, Any]] = {
    "resident_interval_s": 0.05,
    "stream_stall_s": 0.5,
    "runner_grace_s": 0.5,
    "backoff_initial_s": 0.05,
}


async def _ask(daemon: Daemon, tokens: int) -> tuple[str, list[dict[str, Any]]]:
    body = {"model": RECITE, "prompt": "go", "options": {"num_predict": tokens}}
    async with aiohttp.ClientSession(daemon.base_url) as session, session.post("/api/generate", json=body) as answer:
        return answer.headers["X-Ollamad-Child"], [json.loads(line) async for line in answer.content]


async def test_a_frozen_runner_is_killed_its_stream_is_told_and_the_server_goes_on(
    daemons: Daemons, ollama_binary: Path, model_store: Path
) -> None:
    config = {"supervision": IMPATIENT, "gpus": {"cpu_children": 1}}
    async with daemons.run(ollama_binary, config, store=model_store) as daemon:
        await daemon.until_ready(1)
        await _ask(daemon, 1)
        server = (await daemon.child("cpu0"))["pid"]
        (runner,) = runners_of(server)
        async with asyncio.TaskGroup() as tasks:
            asked = tasks.create_task(_ask(daemon, 100_000))
            await until(lambda: _streams(daemon), daemon.explain)
            send_signal(runner.pid, signal.SIGSTOP)
        _, records = asked.result()
        assert "error" in records[-1]
        text = "".join(record.get("response", "") for record in records)
        assert recitation(WORDS, 100_000).startswith(text)
        assert alive([runner]) == []
        stuck = daemon.said("child is stuck, ending its runner")
        assert [(event["model"], "has been silent" in event["reason"]) for event in stuck] == [(RECITE, True)]
        assert daemon.said("runner killed")[0]["pids"] == [runner.pid]

        child, records = await _ask(daemon, 20)
        assert (child, "".join(record["response"] for record in records)) == ("cpu0", recitation(WORDS, 20))
        after = await daemon.child("cpu0")
        assert (after["pid"], after["life"], after["deaths"]) == (server, 1, 0)


async def _streams(daemon: Daemon) -> bool:
    return bool((await daemon.child("cpu0"))["in_flight"])


async def test_a_child_that_is_stuck_again_is_killed_and_one_that_is_so_for_good_is_kept_from_its_place(
    daemons: Daemons, odd_ollama: Path, orders: Path
) -> None:
    (orders / "cpu0.gate").touch()
    (orders / "cpu0.runner").touch()
    supervision = {**IMPATIENT, "wedges_max": 2, "quarantine_s": 1.0}
    config = odd(orders, supervision=supervision, gpus={"cpu_children": 1})
    async with daemons.run(odd_ollama, config) as daemon:
        for life in (1, 2):
            await until(lambda: _is_ready(daemon, life), daemon.explain)  # noqa: B023 - awaited in this round
            _, records = await _ask(daemon, 1)
            assert "gone" in records[-1]["error"]
        assert len(daemon.said("child is stuck, ending its runner")) == 2, "a runner before each child"
        await until(lambda: len(daemon.said("child died")) == 2, daemon.explain)
        deaths = daemon.said("child died")
        assert [event["reason"][:44] for event in deaths] == ["stuck again after its runner was killed: a s"] * 2
        await until(lambda: daemon.said("child in quarantine"), daemon.explain)
        assert "stuck for good 2 times" in daemon.said("child in quarantine")[0]["reason"]

        (orders / "cpu0.gate").unlink()
        await daemon.until_ready(1)
        _, records = await _ask(daemon, 1)
        assert [record["response"] for record in records] == ["one", "two"]


async def _is_ready(daemon: Daemon, life: int) -> bool:
    child = await daemon.child("cpu0")
    return child["life"] == life and bool(child["routable"])


async def test_a_load_of_ollamad_s_own_that_does_not_end_is_a_hang_and_the_request_goes_elsewhere(
    daemons: Daemons, odd_ollama: Path, orders: Path
) -> None:
    (orders / "cpu0.endless-load").touch()
    config = odd(orders, supervision={**IMPATIENT, "load_stall_s": 1.0})
    async with daemons.run(odd_ollama, config) as daemon:
        await daemon.until_ready(2)
        for model in ("m", "n"):  # one of the two is to be loaded by cpu0
            async with (
                aiohttp.ClientSession(daemon.base_url) as session,
                session.post("/api/generate", json={"model": model, "prompt": "go"}) as answer,
            ):
                assert (answer.status, answer.headers["X-Ollamad-Child"]) == (200, "cpu1")
        (stuck,) = daemon.said("child is stuck, ending its runner")
        assert (stuck["child"], "has been loading for 1 s" in stuck["reason"]) == ("cpu0", True)


async def test_a_client_that_takes_nothing_for_long_is_no_hang_of_its_child(
    daemons: Daemons, odd_ollama: Path, orders: Path
) -> None:
    (orders / "all.endless").touch()
    supervision = {**IMPATIENT, "stream_stall_s": 0.2}
    config = odd(orders, supervision=supervision, gpus={"cpu_children": 1})
    async with daemons.run(odd_ollama, config) as daemon:
        await daemon.until_ready(1)
        host, _, port = daemon.base_url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=1)
        try:
            writer.write(b'POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 13\r\n\r\n{"model":"m"}')
            assert b"200" in await reader.readexactly(12)
            await until(lambda: _held_for(daemon, 1.0), daemon.explain)
            assert daemon.said("child is stuck, ending its runner") == []
        finally:
            writer.transport.abort()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


async def _held_for(daemon: Daemon, seconds: float) -> bool:
    streams = (await daemon.child("cpu0"))["streams"]
    return bool(streams) and streams[0]["held"] and streams[0]["silent_s"] >= seconds
