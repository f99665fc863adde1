"""A rolling restart, a reload and a new program: nobody waits in vain, and no child is restarted without need."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from tests.support.control_face import ollamactl
from tests.support.daemon import PATIENCE_S, Daemon, Daemons, send_signal, until
from tests.support.orders import odd
from tests.support.real_ollama import RECITE


async def _ask(session: aiohttp.ClientSession) -> str:
    request = {"model": RECITE, "prompt": "go", "options": {"num_predict": 3}, "stream": False}
    async with session.post("/api/generate", json=request) as answer:
        assert answer.status == 200, await answer.text()
        await answer.read()
        return answer.headers["X-Ollamad-Child"]


async def _lives(daemon: Daemon) -> dict[str, int]:
    return {child["id"]: child["life"] for child in (await daemon.status())["children"]}


async def test_a_rolling_restart_under_load_keeps_a_child_ready_loses_nothing_and_loads_again(
    daemons: Daemons, ollama_binary: Path, model_store: Path
) -> None:
    async with (
        daemons.run(ollama_binary, store=model_store) as daemon,
        aiohttp.ClientSession(daemon.base_url) as session,
    ):
        await daemon.until_ready(2)
        assert {await _ask(session) for _ in range(1)} <= {"cpu0", "cpu1"}
        await asyncio.gather(_ask(session), _ask(session))
        over, least = asyncio.Event(), 2
        answered = 0

        async def keep_asking() -> None:
            nonlocal answered
            while not over.is_set():
                await _ask(session)
                answered += 1

        async def keep_looking() -> None:
            nonlocal least
            while not over.is_set():
                children = (await daemon.status())["children"]
                least = min(least, sum(child["routable"] for child in children))

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(keep_asking())
            tasks.create_task(keep_looking())
            code, out, err = await ollamactl("--socket", str(daemon.control), "restart", "--rolling")
            over.set()
        assert code == 0, err + daemon.explain()
        assert least == 1, out
        assert answered > 0
        assert await _lives(daemon) == {"cpu0": 2, "cpu1": 2}
        last = (await daemon.status())["children"][-1]
        assert [model["name"] for model in last["models"]] == [RECITE], "what it had is loaded again"
        assert [child["deaths"] for child in (await daemon.status())["children"]] == [0, 0]


async def test_a_rolling_restart_that_would_leave_too_few_ready_is_refused(
    daemons: Daemons, odd_ollama: Path, orders: Path
) -> None:
    config = odd(orders, gpus={"cpu_children": 1})
    async with daemons.run(odd_ollama, config) as daemon:
        await daemon.until_ready(1)
        code, _, err = await ollamactl("--socket", str(daemon.control), "restart", "--rolling")
        assert (code, "rolling_ready_min = 1" in err) == (1, True), err
        assert await _lives(daemon) == {"cpu0": 1}


@asynccontextmanager
async def _with_a_failed_child(daemons: Daemons, odd_ollama: Path, orders: Path) -> AsyncIterator[Daemon]:
    """Of two children the first ends at once for as long as `cpu0.exit` is there, and has been given up."""
    (orders / "cpu0.exit").touch()
    supervision = {"crash_loop_deaths": 2, "backoff_initial_s": 0.01, "failed_retry_s": 0}
    async with daemons.run(odd_ollama, odd(orders, supervision=supervision)) as daemon:
        await until(lambda: daemon.said("child failed"), daemon.explain)
        await daemon.until_ready(1)
        yield daemon


async def test_a_rolling_restart_tries_a_failed_child_anew_and_goes_on_to_the_others(
    daemons: Daemons, odd_ollama: Path, orders: Path
) -> None:
    async with _with_a_failed_child(daemons, odd_ollama, orders) as daemon:
        (orders / "cpu0.exit").unlink()
        code, out, err = await ollamactl("--socket", str(daemon.control), "restart", "--rolling")
        assert code == 0, out + err + daemon.explain()
        assert await _lives(daemon) == {"cpu0": 3, "cpu1": 2}


async def test_a_rolling_restart_ends_at_a_child_that_fails_again(
    daemons: Daemons, odd_ollama: Path, orders: Path
) -> None:
    async with _with_a_failed_child(daemons, odd_ollama, orders) as daemon:
        code, out, err = await ollamactl("--socket", str(daemon.control), "restart", "--rolling")
        assert code == 1, out
        assert "cpu0 did not come back (failed: " in err
        assert await _lives(daemon) == {"cpu0": 3, "cpu1": 1}


async def _reload(daemon: Daemon) -> None:
    before = len(daemon.said("configuration reloaded"))
    send_signal(daemon.process.pid, signal.SIGHUP)
    await until(lambda: len(daemon.said("configuration reloaded")) > before, daemon.explain)


async def test_a_reload_that_concerns_no_child_restarts_none_and_is_in_force(
    daemons: Daemons, odd_ollama: Path, orders: Path
) -> None:
    async with daemons.run(odd_ollama, odd(orders)) as daemon:
        await daemon.until_ready(2)
        daemon.configure("proxy", allowed_hosts=["chat.example.com"])
        daemon.configure("log", level="info")
        await _reload(daemon)
        async with (
            aiohttp.ClientSession(daemon.base_url) as session,
            session.post("/api/generate", json={}, headers={"Host": "chat.example.com"}) as answer,
        ):
            assert answer.status == 200
        assert await _lives(daemon) == {"cpu0": 1, "cpu1": 1}


async def test_what_waits_for_a_new_ollamad_is_told_at_each_reload_until_it_is_taken_back(
    daemons: Daemons, odd_ollama: Path, orders: Path
) -> None:
    async with daemons.run(odd_ollama, odd(orders)) as daemon:
        await daemon.until_ready(2)
        for kept in (20, 20, 50):
            daemon.configure("status", requests_kept=kept)
            await _reload(daemon)
        told = [entry["after_restart_of_ollamad"] for entry in daemon.said("configuration reloaded")]
        assert told == [["status.requests_kept"], ["status.requests_kept"], []]


async def test_a_reload_restarts_the_children_whose_environment_differs_and_adds_and_removes_others(
    daemons: Daemons, odd_ollama: Path, orders: Path
) -> None:
    async with daemons.run(odd_ollama, odd(orders)) as daemon:
        await daemon.until_ready(2)
        daemon.configure("gpus", cpu_children=3)
        await _reload(daemon)
        await daemon.until_ready(3)
        assert await _lives(daemon) == {"cpu0": 1, "cpu1": 1, "cpu2": 1}, daemon.explain()
        daemon.configure("ollama", keep_alive="1h")
        await _reload(daemon)
        await until(lambda: _all_restarted(daemon), daemon.explain)
        daemon.configure("gpus", cpu_children=1)
        await _reload(daemon)
        await until(lambda: _children(daemon, {"cpu0": 2}), daemon.explain)


async def test_a_reload_restarts_the_only_child_too_and_who_asks_meanwhile_waits(
    daemons: Daemons, odd_ollama: Path, orders: Path
) -> None:
    async with daemons.run(odd_ollama, odd(orders)) as daemon:
        await daemon.until_ready(2)
        daemon.configure("gpus", cpu_children=1)
        daemon.configure("ollama", keep_alive="1h")
        code, out, err = await ollamactl("--socket", str(daemon.control), "reload")
        assert code == 0, out + err
        assert await _lives(daemon) == {"cpu0": 2}
        async with (
            aiohttp.ClientSession(daemon.base_url) as session,
            session.post("/api/generate", json={}) as answer,
        ):
            assert answer.status == 200


async def _all_restarted(daemon: Daemon) -> bool:
    return await _lives(daemon) == {"cpu0": 2, "cpu1": 2, "cpu2": 2}


async def _children(daemon: Daemon, lives: dict[str, int]) -> bool:
    return await _lives(daemon) == lives


async def test_a_reload_of_a_wrong_file_changes_nothing_and_says_why(
    daemons: Daemons, odd_ollama: Path, orders: Path
) -> None:
    async with daemons.run(odd_ollama, odd(orders)) as daemon:
        await daemon.until_ready(2)
        daemon.configure("ollama", num_parallel=0)
        send_signal(daemon.process.pid, signal.SIGHUP)
        await until(lambda: daemon.said("operation over"), daemon.explain)
        (over,) = daemon.said("operation over")
        assert over["state"] == "failed"
        assert "ollama.num_parallel = 0" in over["problems"][0]
        assert over["operation"].startswith("reload-"), "and it can be asked for again"
        assert await _lives(daemon) == {"cpu0": 1, "cpu1": 1}
        (note,) = (await daemon.status())["notes"]
        assert note.startswith("the new configuration was refused")
        assert "ollama.num_parallel = 0" in note
        assert note in (await ollamactl("--socket", str(daemon.control), "status"))[1]
        daemon.configure("ollama", num_parallel=1)
        await _reload(daemon)
        assert (await daemon.status())["notes"] == []


async def test_on_a_disk_that_is_nearly_full_models_are_served_and_not_changed(
    daemons: Daemons, odd_ollama: Path, orders: Path
) -> None:
    config = odd(orders)
    config["models"] = {**config.get("models", {}), "disk_free_min_bytes": 2**50}
    async with daemons.run(odd_ollama, config) as daemon, aiohttp.ClientSession(daemon.base_url) as session:
        await daemon.until_ready(2)
        refusals = set()
        for path, body in (
            ("/api/copy", b'{"source": "m", "destination": "n"}'),
            ("/api/create", b'{"model": "n", "from": "m"}'),
            (f"/api/blobs/sha256:{'0' * 64}", b"blob"),
        ):
            async with session.post(path, data=body) as answer:
                assert answer.status == 500
                refusals.add((await answer.json())["error"])
        async with session.post("/api/generate", json={}) as answer:
            assert answer.status == 200
        (note,) = (await daemon.status())["notes"]
        assert refusals == {note}
        assert "is nearly full" in note


def _upgrade(program: Path) -> None:
    """As a package manager does it: another file takes the name."""
    new = program.with_suffix(".new")
    new.write_text(program.read_text() + "# newer\n")
    new.chmod(0o755)
    new.rename(program)


async def test_a_new_program_on_disk_is_told_and_taken_by_a_restart(
    daemons: Daemons, odd_ollama: Path, orders: Path
) -> None:
    async with daemons.run(odd_ollama, odd(orders)) as daemon:
        await daemon.until_ready(2)
        _upgrade(odd_ollama)
        await until(lambda: daemon.said("new ollama program"), daemon.explain)
        assert [child["outdated"] for child in (await daemon.status())["children"]] == [True, True]
        code, _, err = await ollamactl("--socket", str(daemon.control), "restart", "cpu1")
        assert code == 0, err
        assert [child["outdated"] for child in (await daemon.status())["children"]] == [True, False]


async def test_a_key_that_is_read_once_is_told_at_each_reload_until_ollamad_is_started_anew(
    daemons: Daemons, odd_ollama: Path, orders: Path
) -> None:
    async with daemons.run(odd_ollama, odd(orders)) as daemon:
        await daemon.until_ready(2)
        daemon.configure("gpus", sample_interval_s=60.0)
        await _reload(daemon)
        daemon.configure("proxy", allowed_hosts=["chat.example.com"])
        await _reload(daemon)
        told = [said["after_restart_of_ollamad"] for said in daemon.said("configuration reloaded")]
        assert told == [["gpus.sample_interval_s"], ["gpus.sample_interval_s"]]


async def test_a_child_that_is_wanted_again_while_ollamad_stops_goes_down_all_the_same(
    daemons: Daemons, odd_ollama: Path, orders: Path
) -> None:
    (orders / "all.stubborn").touch()
    config = odd(orders)
    config["ollama"]["stop_timeout_s"] = 3.0
    async with daemons.run(odd_ollama, config) as daemon:
        await daemon.until_ready(2)
        send_signal(daemon.process.pid, signal.SIGTERM)
        await until(lambda: _phases_are(daemon, "stopping"), daemon.explain)
        async with (
            daemon.operator() as session,
            session.post("/v1/children/cpu0/undrain") as answer,
        ):
            assert answer.status == 200
        async with asyncio.timeout(PATIENCE_S):
            assert await daemon.process.wait() == 0
        assert len(daemon.said("child started")) == 2
        assert not daemon.said("children abandoned")


async def _phases_are(daemon: Daemon, phase: str) -> bool:
    return {child["phase"] for child in (await daemon.status())["children"]} == {phase}
