"""Pulls through ollamad from a registry on loopback, by real Ollamas: shared, left, cut off and taken up again."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.control_face import ollamactl
from tests.support.daemon import Daemon, Daemons, send_signal, until
from tests.support.reciting import TEMPLATE, WORDS, recitation, write_reciting_model
from tests.support.registry import Registry, big_file, registry

MIB = 1 << 20


@pytest.fixture
async def source(tmp_path: Path) -> AsyncIterator[Registry]:
    async with registry(tmp_path / "registry") as found:
        yield found


class Puller:
    """A client that pulls and notes what it is told."""

    def __init__(self, daemon: Daemon, name: str, **also: Any) -> None:
        self._daemon = daemon
        self._request = {"model": name, "insecure": True, **also}
        self.records: list[dict[str, Any]] = []

    async def run(self) -> list[dict[str, Any]]:
        """To the end, or until it is cancelled: then it leaves."""
        async with (
            aiohttp.ClientSession(self._daemon.base_url) as session,
            session.post("/api/pull", json=self._request) as answer,
        ):
            assert answer.content_type == "application/x-ndjson"
            async for line in answer.content:
                self.records.append(json.loads(line))
        return self.records

    @property
    def completed_bytes(self) -> int:
        """Of all layers that it was told of."""
        latest = {record["digest"]: record.get("completed", 0) for record in self.records if "digest" in record}
        return sum(latest.values())


async def names(base_url: str) -> set[str]:
    async with aiohttp.ClientSession(base_url) as session, session.get("/api/tags") as answer:
        return {model["name"] for model in (await answer.json())["models"]}


async def children_s_names(daemon: Daemon) -> list[set[str]]:
    ports = [child["port"] for child in (await daemon.status())["children"]]
    return [await names(f"http://127.0.0.1:{port}") for port in ports]


@asynccontextmanager
async def reciting(source: Registry, folder: Path, model: str) -> AsyncIterator[str]:
    """A model in the registry that can be run."""
    gguf = folder / f"{model}.gguf"
    await asyncio.to_thread(write_reciting_model, gguf, WORDS)
    source.add(model, ("model", gguf), ("template", TEMPLATE.encode()))
    yield source.name(model)


@pytest.mark.parametrize("store", ["shared", "per-child"])
async def test_a_pulled_model_can_be_run_by_every_child_at_once(
    daemons: Daemons, ollama_binary: Path, source: Registry, tmp_path: Path, store: str
) -> None:
    async with (
        reciting(source, tmp_path, "recite") as name,
        daemons.run(ollama_binary, {"models": {"store": store}}) as daemon,
    ):
        await daemon.until_ready(2)
        records = await Puller(daemon, name).run()
        assert [records[0], records[-1]] == [{"status": "pulling manifest"}, {"status": "success"}]
        assert await children_s_names(daemon) == [{f"{name}:latest"}] * 2
        own = [f"http://127.0.0.1:{child['port']}" for child in (await daemon.status())["children"]]
        async with aiohttp.ClientSession() as session:

            async def ask(base_url: str) -> None:
                request = {"model": name, "prompt": "go", "stream": False, "options": {"num_predict": 30}}
                async with session.post(f"{base_url}/api/generate", json=request) as answer:
                    assert (await answer.json())["response"] == recitation(WORDS, 30)

            async with asyncio.TaskGroup() as tasks:
                for base_url in (daemon.base_url, *own):
                    tasks.create_task(ask(base_url))


async def test_two_who_pull_one_model_share_one_download_and_who_comes_late_sees_how_far_it_is(
    daemons: Daemons, ollama_binary: Path, source: Registry, tmp_path: Path
) -> None:
    source.add("big", ("model", await asyncio.to_thread(big_file, tmp_path / "big", 64 * MIB)))
    source.hold_after(40 * MIB)
    async with daemons.run(ollama_binary) as daemon, asyncio.TaskGroup() as tasks:
        await daemon.until_ready(2)
        as_the_command_line = {"username": "", "password": "", "stream": True}
        first = Puller(daemon, source.name("big"))
        late = Puller(daemon, f"{source.name('big').upper()}:latest", **as_the_command_line)
        pulling = tasks.create_task(first.run())
        await until(lambda: first.completed_bytes > 30 * MIB, daemon.explain)
        joined = tasks.create_task(late.run())
        await until(lambda: late.completed_bytes > 30 * MIB, daemon.explain)
        (told,) = (await daemon.status())["store"]["pulls"]
        assert (told["listeners"], told["total_bytes"]) == (2, 64 * MIB)
        source.release()
        assert (await pulling)[-1] == (await joined)[-1] == {"status": "success"}
        assert source.sent_bytes < 66 * MIB
        assert len(daemon.said("pull begins")) == 1


async def test_who_leaves_does_not_abort_it_for_the_other_and_the_last_neither(
    daemons: Daemons, ollama_binary: Path, source: Registry, tmp_path: Path
) -> None:
    source.add("big", ("model", await asyncio.to_thread(big_file, tmp_path / "big", 64 * MIB)))
    source.hold_after(20 * MIB)
    async with daemons.run(ollama_binary) as daemon, asyncio.TaskGroup() as tasks:
        await daemon.until_ready(2)
        one, other = Puller(daemon, source.name("big")), Puller(daemon, source.name("big"))
        leaving, staying = tasks.create_task(one.run()), tasks.create_task(other.run())
        await until(lambda: one.completed_bytes and other.completed_bytes, daemon.explain)
        leaving.cancel()

        async def listeners() -> int:
            (told,) = (await daemon.status())["store"]["pulls"]
            return int(told["listeners"])

        await until(lambda: _is(listeners, 1), daemon.explain)
        source.hold_after(40 * MIB)
        await until(lambda: other.completed_bytes > 30 * MIB, daemon.explain)
        staying.cancel()
        await until(lambda: _is(listeners, 0), daemon.explain)
        source.release()
        await until(lambda: daemon.said("pull ended"), daemon.explain)
        assert "error" not in daemon.said("pull ended")[0]
        assert await names(daemon.base_url) == {f"{source.name('big')}:latest"}


async def _is(found: Any, wanted: object) -> bool:
    return bool(await found() == wanted)


async def test_a_child_that_dies_under_a_pull_costs_nothing_but_time(
    daemons: Daemons, ollama_binary: Path, source: Registry, tmp_path: Path
) -> None:
    source.add("big", ("model", await asyncio.to_thread(big_file, tmp_path / "big", 64 * MIB)))
    source.hold_after(30 * MIB)
    async with daemons.run(ollama_binary) as daemon, asyncio.TaskGroup() as tasks:
        await daemon.until_ready(2)
        puller = Puller(daemon, source.name("big"))
        pulling = tasks.create_task(puller.run())
        await until(lambda: puller.completed_bytes > 20 * MIB, daemon.explain)
        send_signal((await daemon.child("cpu0"))["pid"], signal.SIGKILL)
        await until(lambda: daemon.said("pull goes on elsewhere"), daemon.explain)
        source.release()
        assert (await pulling)[-1] == {"status": "success"}
        assert await children_s_names(daemon) == [{f"{source.name('big')}:latest"}] * 2


async def test_a_gib_joined_left_killed_in_the_middle_and_taken_up_again(
    daemons: Daemons, ollama_binary: Path, source: Registry, tmp_path: Path
) -> None:
    gib = 1024 * MIB
    source.add("gib", ("model", await asyncio.to_thread(big_file, tmp_path / "gib", gib)))
    source.in_turn = True
    source.hold_after(gib // 2)
    store = tmp_path / "store"
    async with daemons.run(ollama_binary, store=store) as daemon:
        await daemon.until_ready(2)
        one, other = Puller(daemon, source.name("gib")), Puller(daemon, source.name("gib"))
        async with asyncio.TaskGroup() as tasks:
            leaving, cut = tasks.create_task(one.run()), tasks.create_task(_to_any_end(other))
            await until(lambda: other.completed_bytes > gib // 3 and one.records, daemon.explain)
            leaving.cancel()
            send_signal(daemon.process.pid, signal.SIGKILL)
            await daemon.process.wait()
            await cut
    sent_before = source.sent_bytes
    source.release()
    partials = list((store / "blobs").glob("*-partial*"))
    assert partials
    async with daemons.run(ollama_binary, store=store) as daemon:
        await daemon.until_ready(2)
        again = Puller(daemon, source.name("gib"))
        assert (await again.run())[-1] == {"status": "success"}
        assert await children_s_names(daemon) == [{f"{source.name('gib')}:latest"}] * 2
    assert source.sent_bytes - sent_before < gib * 4 // 5  # it went on from where it was
    assert not list((store / "blobs").glob("*-partial*"))


async def _to_any_end(puller: Puller) -> None:
    try:
        await puller.run()
    except aiohttp.ClientError:
        return


@pytest.mark.parametrize("stream", [True, False])
async def test_what_can_t_be_pulled_is_told_as_ollama_tells_it(
    daemons: Daemons,
    ollama_binary: Path,
    source: Registry,
    stream: bool,  # noqa: FBT001
) -> None:
    async with daemons.run(ollama_binary) as daemon, aiohttp.ClientSession(daemon.base_url) as session:
        await daemon.until_ready(2)
        request = {"model": source.name("nobody"), "insecure": True, "stream": stream}
        async with session.post("/api/pull", json=request) as answer:
            records = [json.loads(line) for line in (await answer.read()).splitlines()]
            assert answer.status == (200 if stream else 500)
        assert records[-1] == {"error": "pull model manifest: file does not exist"}
        async with session.post("/api/pull", json={"model": "../x"}) as answer:
            assert (answer.status, await answer.json()) == (400, {"error": "invalid model name"})


async def test_a_model_that_is_pulled_is_not_deleted_under_those_who_wait_for_it(
    daemons: Daemons, ollama_binary: Path, source: Registry, tmp_path: Path
) -> None:
    source.add("big", ("model", await asyncio.to_thread(big_file, tmp_path / "big", 8 * MIB)))
    source.hold_after(4 * MIB)
    async with daemons.run(ollama_binary) as daemon, asyncio.TaskGroup() as tasks:
        await daemon.until_ready(2)
        puller = Puller(daemon, source.name("big"))
        pulling = tasks.create_task(puller.run())
        await until(lambda: puller.completed_bytes, daemon.explain)
        async with aiohttp.ClientSession(daemon.base_url) as session:
            async with session.delete("/api/delete", json={"model": source.name("big")}) as answer:
                assert (answer.status, "being pulled" in (await answer.json())["error"]) == (409, True)
            source.release()
            await pulling
            async with session.delete("/api/delete", json={"model": source.name("big")}) as answer:
                assert (answer.status, await answer.read()) == (200, b"")
        assert await children_s_names(daemon) == [set(), set()]


async def test_a_registry_that_is_named_as_insecure_is_one_for_all_who_pull(
    daemons: Daemons, ollama_binary: Path, source: Registry
) -> None:
    for model in ("ensured", "operators", "clients"):
        source.add(model, ("model", model.encode()))
    host = f"127.0.0.1:{source.port}"
    models = {"ensure": [source.name("ensured")], "insecure_registries": [host], "retry_initial_s": 0.1}
    async with daemons.run(ollama_binary, {"models": models}) as daemon:
        await daemon.until_ready(2)

        async def there() -> bool:
            return f"{source.name('ensured')}:latest" in await names(daemon.base_url)

        await until(there, daemon.explain)
        assert not daemon.said("ensured model not pulled")
        code, _, err = await ollamactl("--socket", str(daemon.control), "pull", source.name("operators"))
        assert code == 0, err
        async with aiohttp.ClientSession(daemon.base_url) as session:
            request = {"model": source.name("clients"), "insecure": False, "stream": False}
            async with session.post("/api/pull", json=request) as answer:
                assert (await answer.json()) == {"status": "success"}, "clients send false where nothing was said"


async def test_an_operator_s_pull_is_stopped_by_deleting_the_model_and_its_operation_says_so(
    daemons: Daemons, ollama_binary: Path, tmp_path: Path, source: Registry
) -> None:
    source.add("big", ("model", await asyncio.to_thread(big_file, tmp_path / "big", 40 * MIB)))
    source.hold_after(10 * MIB)
    name = source.name("big")
    async with daemons.run(ollama_binary) as daemon, asyncio.TaskGroup() as tasks:
        await daemon.until_ready(2)
        pull = tasks.create_task(ollamactl("--socket", str(daemon.control), "pull", "--insecure", name))
        await until(lambda: source.sent_bytes >= 8 * MIB, daemon.explain)
        assert await ollamactl("--socket", str(daemon.control), "rm", name) == (
            0,
            f"the pull of {name} is given up; what has come of it goes with ollamactl prune\n",
            "",
        )
        code, _, err = await pull
        assert (code, "the pull was given up" in err) == (1, True)


async def test_ensured_models_are_pulled_and_preloaded_ones_loaded_and_kept(
    daemons: Daemons, ollama_binary: Path, source: Registry, tmp_path: Path
) -> None:
    """`ensure` says no `insecure`; a registry without TLS is refused, told, and tried again."""
    async with reciting(source, tmp_path, "recite") as name:
        models = {"ensure": [name], "preload": [name], "retry_initial_s": 0.1, "preload_interval_s": 0.1}
        async with daemons.run(ollama_binary, {"models": models}) as daemon:
            await daemon.until_ready(2)
            await until(lambda: daemon.said("ensured model not pulled"), daemon.explain)
            (wanted,) = (await daemon.status())["store"]["ensure"]
            assert wanted["model"] == f"{name}:latest"
            assert wanted["state"] in {"retrying", "pulling"}, "the next try may have begun"
            assert "HTTP response to HTTPS client" in wanted["reason"]
            assert (await Puller(daemon, name).run())[-1] == {"status": "success"}

            async def state(table: str) -> str:
                (found,) = (await daemon.status())["store"][table]
                return str(found["state"])

            await until(lambda: _is(lambda: state("ensure"), "there"), daemon.explain)
            await until(lambda: _is(lambda: state("preload"), "loaded"), daemon.explain)

            async def loaded() -> list[str]:
                async with aiohttp.ClientSession(daemon.base_url) as session, session.get("/api/ps") as answer:
                    return [model["name"] for model in (await answer.json())["models"]]

            await until(lambda: _is(loaded, [f"{name}:latest"]), daemon.explain)
            async with aiohttp.ClientSession(daemon.base_url) as session:
                request = {"model": name, "keep_alive": 0}
                async with session.post("/api/generate", json=request) as answer:
                    assert (await answer.json())["done_reason"] == "unload"
            await until(lambda: _is(loaded, [f"{name}:latest"]), daemon.explain)  # somebody unloaded it: it comes back
