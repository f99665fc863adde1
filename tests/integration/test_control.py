"""Control over a real daemon: `ollamactl` and plain HTTP on its socket, children that are processes."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.control_face import ollamactl
from tests.support.daemon import Daemon, Daemons, alive, until
from tests.support.real_ollama import RECITE

Tables = Mapping[str, dict[str, Any]]


@asynccontextmanager
async def odd_daemon(
    daemons: Daemons, program: Path, orders: Path, tables: Tables | None = None
) -> AsyncIterator[Daemon]:
    tables = tables or {}
    ollama = {"env": {"ODD_ORDERS": str(orders)}, **tables.get("ollama", {})}
    async with daemons.run(program, {**tables, "ollama": ollama}) as daemon:
        await daemon.until_ready(2)
        yield daemon


async def ctl(daemon: Daemon, *arguments: str) -> tuple[int, str, str]:
    return await ollamactl("--socket", str(daemon.control), *arguments)


async def ctl_json(daemon: Daemon, *arguments: str) -> Any:
    code, out, err = await ctl(daemon, "--json", *arguments)
    assert code == 0, err
    return json.loads(out)


async def test_curl_over_the_socket_sees_what_status_says(daemons: Daemons, odd_ollama: Path, orders: Path) -> None:
    async with (
        odd_daemon(daemons, odd_ollama, orders) as daemon,
        daemon.operator() as session,
    ):
        async with session.get("/v1/status") as answer:
            told = await answer.json()
        about = told["daemon"]
        assert about["pid"] == daemon.process.pid
        assert [f"http://{about[face]}" for face in ("proxy", "status")] == [daemon.base_url, daemon.status_url]
        assert [child["id"] for child in told["children"]] == ["cpu0", "cpu1"]
        assert {*told} - {"daemon"} == {*await daemon.page()}


async def test_a_second_ollamad_on_the_socket_is_refused_and_starts_nothing(
    daemons: Daemons, odd_ollama: Path, orders: Path
) -> None:
    async with odd_daemon(daemons, odd_ollama, orders) as first:
        with pytest.raises(AssertionError) as refused:
            async with daemons.run(odd_ollama, {"control": {"socket": str(first.control)}}):
                pass
        assert f"another ollamad (pid {first.process.pid}) has the control socket {first.control}" in str(refused.value)
        assert (await ctl(first, "status"))[0] == 0
    assert not first.control.exists()


async def test_a_killed_ollamads_socket_is_taken_over(daemons: Daemons, odd_ollama: Path, orders: Path) -> None:
    async with odd_daemon(daemons, odd_ollama, orders) as first:
        family = first.all_processes()
        first.process.kill()
        await until(lambda: not alive(family), first.explain)
        assert first.control.exists()
        code, _, err = await ctl(first, "status")
        assert code == 3
        assert "no ollamad answers" in err
        tables: Tables = {"control": {"socket": str(first.control)}, "ollama": {"env": {"ODD_ORDERS": str(orders)}}}
        async with daemons.run(odd_ollama, tables):
            assert (await ctl(first, "status"))[0] == 0


async def test_a_drained_child_finishes_what_it_has_and_stops_and_comes_back(
    daemons: Daemons, odd_ollama: Path, orders: Path
) -> None:
    gates = {name: orders / f"{name}.gate" for name in ("cpu0", "cpu1")}
    for gate in gates.values():
        gate.touch()
    async with odd_daemon(daemons, odd_ollama, orders) as daemon, aiohttp.ClientSession(daemon.base_url) as client:
        async with client.post("/api/generate", json={"model": "m", "prompt": "x"}) as answer:
            busy = answer.headers["X-Ollamad-Child"]
            other = "cpu1" if busy == "cpu0" else "cpu0"
            (request,) = (await ctl_json(daemon, "requests"))["requests"]
            assert (request["child"], request["model"]) == (busy, "m:latest")
            assert (await ctl(daemon, "drain", busy))[0] == 0
            await until(lambda: _phase_is(daemon, busy, "draining"), daemon.explain)
            gates[other].unlink()
            async with client.post("/api/generate", json={"model": "m", "prompt": "y"}) as second:
                assert second.headers["X-Ollamad-Child"] == other
            gates[busy].unlink()
            assert len((await answer.read()).splitlines()) == 2
        code, out, _ = await ctl(daemon, "drain", busy, "--wait")
        assert (code, out.partition(" (")[0]) == (0, f"{busy} has stopped")
        assert (await ctl(daemon, "undrain", busy))[0] == 0
        await daemon.until_ready(2)


async def _phase_is(daemon: Daemon, child: str, phase: str) -> bool:
    return bool((await daemon.child(child))["phase"] == phase)


async def test_a_restart_gives_a_child_a_new_process_and_waits_for_it(
    daemons: Daemons, odd_ollama: Path, orders: Path
) -> None:
    async with odd_daemon(daemons, odd_ollama, orders) as daemon:
        before = await daemon.child("cpu0")
        code, out, _ = await ctl(daemon, "restart", "cpu0")
        assert (code, out.partition(" (")[0]) == (0, "cpu0 is ready again")
        after = await daemon.child("cpu0")
        assert (after["life"], after["deaths"], after["routable"]) == (before["life"] + 1, 0, True)
        assert after["pid"] != before["pid"]


async def test_a_rolling_restart_takes_one_at_a_time_and_outlives_who_asked(
    daemons: Daemons, odd_ollama: Path, orders: Path
) -> None:
    async with odd_daemon(daemons, odd_ollama, orders) as daemon:
        before = {child["id"]: child["pid"] for child in (await daemon.status())["children"]}
        (orders / "cpu0.idle").touch()  # its next process takes its time
        async with (
            daemon.operator() as session,
            session.post("/v1/restart") as answer,
        ):
            name = answer.headers["X-Ollamad-Operation"]
            assert json.loads(await answer.content.readline())["progress"]["child"] == "cpu0"
        await until(lambda: _phase_is(daemon, "cpu0", "starting"), daemon.explain)
        code, _, err = await ctl(daemon, "restart", "--rolling")
        assert code == 1
        assert name in err
        assert (await daemon.child("cpu1"))["routable"]
        (orders / "cpu0.idle").unlink()
        code, out, _ = await ctl(daemon, "operations", name, "--follow")
        assert code == 0
        assert out.index("cpu0: ready") < out.index("cpu1: drains") < out.index("cpu1: ready") < out.index("is done")
        after = {child["id"]: child["pid"] for child in (await daemon.status())["children"]}
        assert all(after[child] != before[child] for child in before)


async def test_a_child_that_failed_says_why_and_reset_starts_it(
    daemons: Daemons, odd_ollama: Path, orders: Path
) -> None:
    async with odd_daemon(daemons, odd_ollama, orders, {"supervision": {"backoff_initial_s": 0.01}}) as daemon:
        (orders / "cpu0.exit").touch()
        os.kill((await daemon.child("cpu0"))["pid"], signal.SIGKILL)
        await until(lambda: _phase_is(daemon, "cpu0", "failed"), daemon.explain)
        code, out, _ = await ctl(daemon, "status")
        assert code == 0
        assert "failed" in out
        assert "cpu0: died" in out
        assert "told to fail" in (await ctl(daemon, "logs", "cpu0"))[1]
        (orders / "cpu0.exit").unlink()
        assert (await ctl(daemon, "reset", "cpu0"))[0] == 0
        await daemon.until_ready(2)


async def test_a_reload_takes_what_differs_and_refuses_what_is_wrong(
    daemons: Daemons, odd_ollama: Path, orders: Path
) -> None:
    async with odd_daemon(daemons, odd_ollama, orders) as daemon:
        file = daemon.folder / "config.toml"
        good = file.read_text()
        file.write_text(good + '\n[colour]\nx = 1\n[log2]\ny = "z"\n')
        code, _, err = await ctl(daemon, "reload")
        assert code == 1
        assert "there is no table [colour]" in err
        assert "there is no table [log2]" in err
        file.write_text(good.replace("[gpus]\ncpu_children = 2", "[gpus]\ncpu_children = 3"))
        code, out, _ = await ctl(daemon, "reload")
        assert code == 0
        assert "in force now: gpus.cpu_children" in out
        await daemon.until_ready(3)


async def test_what_is_changed_is_logged_with_who_changed_it(daemons: Daemons, odd_ollama: Path, orders: Path) -> None:
    async with odd_daemon(daemons, odd_ollama, orders) as daemon:
        await ctl(daemon, "reset", "cpu1")
        (entry,) = [one for one in daemon.said("control asked") if one["level"] == "info"]
        assert entry["path"] == "/v1/children/cpu1/reset"
        assert entry["pid"] not in {daemon.process.pid, 0}


async def test_an_operation_that_runs_when_the_daemon_stops_does_not_hold_it_up(
    daemons: Daemons, odd_ollama: Path, orders: Path
) -> None:
    async with odd_daemon(daemons, odd_ollama, orders) as daemon:
        (orders / "all.idle").touch()
        code, out, _ = await ctl(daemon, "--json", "restart", "cpu0", "--no-wait")
        assert (code, json.loads(out)["id"]) == (0, "cpu0")
        async with (
            daemon.operator() as session,
            session.post("/v1/restart?detach=1") as answer,
        ):
            assert answer.status == 202
        await daemon.stop()


async def test_models_are_loaded_counted_and_unloaded_on_real_ollamas(
    daemons: Daemons, ollama_binary: Path, model_store: Path
) -> None:
    async with daemons.run(ollama_binary, store=model_store) as daemon:
        await daemon.until_ready(2)
        assert RECITE in (await ctl(daemon, "models"))[1]
        code, out, err = await ctl(daemon, "load", RECITE)
        assert code == 0, err
        chosen = out.split()[-1]
        assert chosen in {"cpu0", "cpu1"}
        await until(lambda: _has(daemon, chosen), daemon.explain)
        assert (await ctl(daemon, "load", RECITE, "--replicas", "2"))[1] == f"{RECITE} is loaded on cpu0, cpu1\n"
        for child in ("cpu0", "cpu1"):
            await until(lambda child=child: _has(daemon, child), daemon.explain)  # type: ignore[misc]
        (model,) = [one for one in (await ctl_json(daemon, "models"))["models"] if one["name"] == RECITE]
        assert model["loaded_on"] == ["cpu0", "cpu1"]
        assert (await ctl(daemon, "unload", RECITE))[:2] == (0, f"{RECITE} is unloaded from cpu0, cpu1\n")
        for child in ("cpu0", "cpu1"):
            await until(lambda child=child: _has_not(daemon, child), daemon.explain)  # type: ignore[misc]


async def _has(daemon: Daemon, child: str) -> bool:
    return any(model["name"] == RECITE for model in (await daemon.child(child))["models"])


async def _has_not(daemon: Daemon, child: str) -> bool:
    return not await _has(daemon, child)


async def test_a_route_is_explained_and_stores_are_seen_to(
    daemons: Daemons, ollama_binary: Path, model_store: Path
) -> None:
    async with daemons.run(ollama_binary, store=model_store) as daemon:
        await daemon.until_ready(2)
        told = await ctl_json(daemon, "route", "--explain", RECITE)
        assert {"cpu0", "cpu1"} == set(told["children"])
        assert "cpu0" in (await ctl(daemon, "route", "--explain", RECITE))[1]
        code, out, err = await ctl(daemon, "sync")
        assert (code, "synchronized" in out + err) == (0, True), err
        code, out, err = await ctl(daemon, "prune", "--dry-run")
        assert (code, "files would be deleted" in out + err) == (0, True), err
