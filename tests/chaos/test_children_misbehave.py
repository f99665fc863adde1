"""Children that do not start, do not answer, do not stop, or print too much: the daemon and the siblings go on."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import aiohttp
import psutil
from aiohttp import web

from tests.support.daemon import Daemons, alive, send_signal, until
from tests.support.orders import odd
from tests.support.simulated import MODEL


async def test_a_child_that_exits_at_once_is_retried_with_backoff_while_its_sibling_serves(
    daemons: Daemons, odd_ollama: Path, orders: Path
) -> None:
    (orders / "cpu0.exit").touch()
    async with daemons.run(odd_ollama, odd(orders, supervision={"backoff_initial_s": 0.05})) as daemon:
        await until(lambda: len(daemon.said("child died")) >= 4, daemon.explain)
        waits = [event["restart_in_s"] for event in daemon.said("child died")[:4]]
        assert waits[0] == 0.0
        assert 0.0 < waits[1] <= waits[2] <= waits[3] <= 0.2
        assert "exited with status 1: Error: told to fail" in daemon.said("child died")[0]["reason"]
        async with aiohttp.ClientSession(daemon.base_url) as session, session.post("/api/generate", json={}) as answer:
            assert (answer.status, answer.headers["X-Ollamad-Child"]) == (200, "cpu1")
        (orders / "cpu0.exit").unlink()
        await daemon.until_ready(2)


async def test_a_child_that_never_answers_is_ended_and_started_again(
    daemons: Daemons, odd_ollama: Path, orders: Path
) -> None:
    (orders / "cpu0.deaf").touch()
    config = odd(orders, supervision={"probe_timeout_s": 0.1})
    config["ollama"]["start_timeout_s"] = 4.0
    async with daemons.run(odd_ollama, config) as daemon:
        await until(lambda: daemon.said("child died"), daemon.explain)
        assert daemon.said("child died")[0]["reason"] == "not ready 4 s after its start"
        (orders / "cpu0.deaf").unlink()
        await daemon.until_ready(2)


async def test_a_child_that_ignores_term_is_killed_with_all_it_started(
    daemons: Daemons, odd_ollama: Path, orders: Path
) -> None:
    (orders / "all.stubborn").touch()
    (orders / "all.runner").touch()
    config = odd(orders)
    config["ollama"]["stop_timeout_s"] = 0.2
    async with daemons.run(odd_ollama, config) as daemon:
        await daemon.until_ready(2)
        processes = daemon.all_processes()
        assert len(processes) == 6, "ollamad, its warden, two children with a runner each"
        await daemon.stop()
        assert alive(processes) == []


async def test_a_child_that_prints_megabytes_is_drained_and_its_lines_are_bounded(
    daemons: Daemons, odd_ollama: Path, orders: Path
) -> None:
    (orders / "cpu0.flood").touch()
    async with daemons.run(odd_ollama, odd(orders)) as daemon:
        await daemon.until_ready(2)
        lines = [event["line"] for event in daemon.said("child output") if event["child"] == "cpu0"]
        assert lines.count("a line of the flood") == 100_000
        assert max(map(len, lines)) == 8192


async def test_a_port_that_somebody_takes_is_passed_over(daemons: Daemons, odd_ollama: Path, orders: Path) -> None:
    squatter = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    async with squatter:
        base = squatter.sockets[0].getsockname()[1]
        config = odd(orders)
        config["ollama"]["base_port"] = base
        async with daemons.run(odd_ollama, config) as daemon:
            await daemon.until_ready(2)
            ports = [child["port"] for child in (await daemon.status())["children"]]
            assert base not in ports
            assert len(set(ports)) == 2


async def test_a_stranger_on_a_child_s_port_is_not_taken_for_the_child(
    daemons: Daemons, odd_ollama: Path, orders: Path
) -> None:
    (orders / "cpu0.idle").touch()
    asked: list[str] = []

    async def version(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.json_response({"version": "a stranger's"})

    async with daemons.run(odd_ollama, odd(orders, gpus={"cpu_children": 1})) as daemon:
        await until(lambda: daemon.said("child started"), daemon.explain)
        stranger = web.Application()
        stranger.router.add_get("/api/version", version)
        runner = web.AppRunner(stranger)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", daemon.said("child started")[0]["port"]).start()
        try:
            await until(lambda: len(asked) >= 3, daemon.explain)
            assert (await daemon.child("cpu0"))["phase"] == "starting"
            (orders / "cpu0.idle").unlink()
            await daemon.until_ready(1)
        finally:
            await runner.cleanup()
        assert (await daemon.child("cpu0"))["ollama_version"] == "0.0.0-odd"


async def test_requests_right_after_a_death_are_all_served(daemons: Daemons, odd_ollama: Path, orders: Path) -> None:
    async with daemons.run(odd_ollama, odd(orders)) as daemon, aiohttp.ClientSession(daemon.base_url) as session:
        await daemon.until_ready(2)
        victim = psutil.Process((await daemon.child("cpu0"))["pid"])
        send_signal(victim.pid, signal.SIGKILL)
        for _ in range(10):
            async with session.post("/api/generate", json={}) as answer:
                assert answer.status == 200
        await daemon.until_ready(2)


async def test_a_delete_whose_child_dies_with_the_last_word_on_its_lips_is_done_and_said_to_be(
    daemons: Daemons, odd_ollama: Path, orders: Path, sim_store: Path
) -> None:
    (orders / "all.last-deed").touch()
    async with daemons.run(odd_ollama, odd(orders), store=sim_store) as daemon:
        await daemon.until_ready(2)
        async with aiohttp.ClientSession(daemon.base_url) as session:
            async with session.delete("/api/delete", json={"model": MODEL}) as answer:
                assert (answer.status, await answer.read()) == (200, b"")
            await until(lambda: daemon.said("child died"), daemon.explain)
            (orders / "all.last-deed").unlink()
            async with session.delete("/api/delete", json={"model": MODEL}) as answer:
                assert answer.status == 404, "there was one to delete"
