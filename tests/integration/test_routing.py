"""Routing in a running daemon: who waits where, who loads what, and what is said and kept of it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.daemon import Daemon, Daemons, until
from tests.support.real_ollama import RECITE
from tests.support.reciting import WORDS, recitation

ASK = {"model": "m", "prompt": "go"}


@pytest.fixture
def orders(tmp_path: Path) -> Path:
    folder = tmp_path / "orders"
    folder.mkdir()
    return folder


def odd(orders: Path, children: int = 2, **tables: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {"ollama": {"env": {"ODD_ORDERS": str(orders)}}, "gpus": {"cpu_children": children}, **tables}


def lines(folder: Path, what: str) -> list[str]:
    """The children that noted something, once for each time."""
    return [path.stem for path in sorted(folder.glob(f"*.{what}")) for _ in path.read_text().splitlines()]


async def ask(session: aiohttp.ClientSession, body: dict[str, Any] = ASK) -> tuple[int, str]:
    async with session.post("/api/generate", json=body) as answer:
        await answer.read()
        return answer.status, answer.headers.get("X-Ollamad-Child", "")


async def waiting(daemon: Daemon, number: int) -> None:
    async def so_many() -> bool:
        return bool((await daemon.status())["waiting"] == number)

    await until(so_many, daemon.explain)


async def test_a_request_for_a_full_model_waits_in_the_daemon_and_not_in_the_child(
    daemons: Daemons, odd_ollama: Path, orders: Path
) -> None:
    (orders / "all.wait").touch()
    async with (
        daemons.run(odd_ollama, odd(orders, children=1)) as daemon,
        aiohttp.ClientSession(daemon.base_url) as session,
        asyncio.TaskGroup() as tasks,
    ):
        await daemon.until_ready(1)
        asked = [tasks.create_task(ask(session)) for _ in range(3)]
        await waiting(daemon, 2)
        await until(lambda: lines(orders, "seen") == ["cpu0"], daemon.explain)
        asked[-1].cancel()
        await waiting(daemon, 1)
        (orders / "all.wait").unlink()
        assert [(await one)[0] for one in asked[:-1]] == [200, 200]
        assert lines(orders, "seen") == ["cpu0", "cpu0"]


async def test_a_model_is_loaded_once_for_all_who_wait_and_before_they_are_sent(
    daemons: Daemons, odd_ollama: Path, orders: Path
) -> None:
    config = odd(orders, routing={"models": {"m": {"max_replicas": 1}}})
    async with daemons.run(odd_ollama, config) as daemon, aiohttp.ClientSession(daemon.base_url) as session:
        await daemon.until_ready(2)
        answers = await asyncio.gather(*(ask(session) for _ in range(6)))
        assert [status for status, _ in answers] == [200] * 6
        assert len(lines(orders, "loads")) == 1
        assert {child for _, child in answers} == set(lines(orders, "loads"))


async def test_options_that_make_ollama_load_anew_are_loaded_with_and_a_second_shape_goes_to_the_other_child(
    daemons: Daemons, odd_ollama: Path, orders: Path
) -> None:
    async with (
        daemons.run(odd_ollama, odd(orders)) as daemon,
        aiohttp.ClientSession(daemon.base_url) as session,
    ):
        await daemon.until_ready(2)
        long = {**ASK, "options": {"num_ctx": 8192, "temperature": 0}}
        _, plain_child = await ask(session)
        _, long_child = await ask(session, long)
        assert plain_child != long_child
        assert [(await ask(session))[1], (await ask(session, long))[1]] == [plain_child, long_child]
        (loaded,) = (orders / f"{long_child}.loads").read_text().splitlines()
        assert json.loads(loaded)["options"] == {"num_ctx": 8192}


async def test_a_load_that_fails_on_one_child_is_made_on_another(
    daemons: Daemons, odd_ollama: Path, orders: Path
) -> None:
    (orders / "cpu0.no-load").touch()
    async with (
        daemons.run(odd_ollama, odd(orders)) as daemon,
        aiohttp.ClientSession(daemon.base_url) as session,
    ):
        await daemon.until_ready(2)
        assert [await ask(session) for _ in range(4)] == [(200, "cpu1")] * 4


async def test_a_load_that_fails_everywhere_lets_the_client_hear_from_a_child(
    daemons: Daemons, odd_ollama: Path, orders: Path
) -> None:
    (orders / "all.no-load").touch()
    (orders / "all.refuse").touch()
    async with (
        daemons.run(odd_ollama, odd(orders)) as daemon,
        aiohttp.ClientSession(daemon.base_url) as session,
        session.post("/api/generate", json=ASK) as answer,
    ):
        assert answer.status == 500
        assert "can't" in (await answer.json())["error"]


async def test_a_deadline_of_the_client_s_own_is_503_with_when_to_come_back(
    daemons: Daemons, odd_ollama: Path, orders: Path
) -> None:
    (orders / "all.wait").touch()
    async with (
        daemons.run(odd_ollama, odd(orders, children=1)) as daemon,
        aiohttp.ClientSession(daemon.base_url) as session,
        asyncio.TaskGroup() as tasks,
    ):
        await daemon.until_ready(1)
        first = tasks.create_task(ask(session))
        await until(lambda: lines(orders, "seen"), daemon.explain)
        async with session.post("/api/generate", json=ASK, headers={"X-Ollamad-Wait-Max": "0.05"}) as answer:
            assert answer.status == 503
            assert int(answer.headers["Retry-After"]) >= 1
            assert "no slot for m:latest" in (await answer.json())["error"]
        (orders / "all.wait").unlink()
        assert (await first)[0] == 200


async def test_what_was_learned_on_a_real_ollama_is_kept_and_read_again(
    daemons: Daemons, ollama_binary: Path, model_store: Path, tmp_path: Path
) -> None:
    config: dict[str, dict[str, Any]] = {"routing": {"state_dir": str(tmp_path / "state")}, "gpus": {"cpu_children": 1}}
    async with (
        daemons.run(ollama_binary, config, store=model_store) as daemon,
        aiohttp.ClientSession(daemon.base_url) as session,
    ):
        body = {"model": RECITE, "prompt": "go " * 100, "options": {"num_predict": 30}, "stream": False}
        async with session.post("/api/generate", json=body) as answer:
            assert (await answer.json())["response"] == recitation(WORDS, 30)
            assert answer.headers["X-Ollamad-Reason"].startswith("has the model and a free slot; ready, ")
    kept = {value["what"] for value in json.loads((tmp_path / "state" / "learned.json").read_text())["values"]}
    assert kept >= {"load_cold_s", "prefill_per_s", "decode_per_s", "service_s", "output_tokens", "bytes_per_token"}
    async with daemons.run(ollama_binary, config, store=model_store) as again:
        assert again.said("learned values read")[0]["values"] >= len(kept)


async def test_an_unload_is_of_every_child_and_loads_nothing(
    daemons: Daemons, ollama_binary: Path, model_store: Path
) -> None:
    async with (
        daemons.run(ollama_binary, store=model_store) as daemon,
        aiohttp.ClientSession(daemon.base_url) as session,
    ):
        await daemon.until_ready(2)
        assert (await ask(session, {"model": RECITE, "stream": False}))[0] == 200
        await until(lambda: daemon.said("model loaded"), daemon.explain)
        assert (await ask(session, {"model": RECITE, "keep_alive": 0, "stream": False}))[0] == 200

        async def gone() -> bool:
            return not any(child["models"] for child in (await daemon.status())["children"])

        await until(gone, daemon.explain)
        assert len(daemon.said("model loaded")) == 1


async def test_a_model_that_is_not_there_is_told_by_the_child(
    daemons: Daemons, ollama_binary: Path, model_store: Path
) -> None:
    async with (
        daemons.run(ollama_binary, store=model_store) as daemon,
        aiohttp.ClientSession(daemon.base_url) as session,
        session.post("/api/generate", json={"model": "nothing-of-that-name", "prompt": "x"}) as answer,
    ):
        assert answer.status == 404
        assert "not found" in (await answer.json())["error"]
