"""Models made, copied, deleted, listed and unloaded through ollamad, as if its real children were one Ollama."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import json
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.daemon import Daemon, Daemons, until
from tests.support.real_ollama import RECITE, RECITE_B
from tests.support.stores import disk_bytes, files

MODELFILE = "FROM @sha256:{}\nTEMPLATE {{{{ .Prompt }}}}\n"


@pytest.fixture(params=["shared", "per-child"])
async def daemon(
    request: pytest.FixtureRequest, daemons: Daemons, ollama_binary: Path, model_store: Path, tmp_path: Path
) -> AsyncIterator[Daemon]:
    """Two children over a copy of the store, which they share or have come to have each for itself."""
    await asyncio.to_thread(shutil.copytree, model_store, tmp_path / "store")
    models = {"store": request.param, "reconcile_interval_s": 0.3}
    async with daemons.run(ollama_binary, {"models": models}, store=tmp_path / "store") as running:
        await running.until_ready(2)
        if request.param == "per-child":
            await until(lambda: running.said("models synchronized"), running.explain)
        yield running


async def ports(daemon: Daemon) -> list[int]:
    return [child["port"] for child in (await daemon.status())["children"]]


async def tags(base_url: str) -> dict[str, str]:
    async with aiohttp.ClientSession(base_url) as session, session.get("/api/tags") as answer:
        return {model["name"]: model["digest"] for model in (await answer.json())["models"]}


async def everywhere(daemon: Daemon) -> list[dict[str, str]]:
    """What each child lists, and what ollamad does."""
    children = [await tags(f"http://127.0.0.1:{port}") for port in await ports(daemon)]
    return [*children, await tags(daemon.base_url)]


async def all_same(daemon: Daemon) -> bool:
    first, *rest = await everywhere(daemon)
    return all(other == first for other in rest)


async def post(session: aiohttp.ClientSession, path: str, **body: Any) -> list[dict[str, Any]]:
    async with session.post(path, json=body) as answer:
        assert answer.status == 200, await answer.text()
        return [json.loads(line) for line in (await answer.read()).splitlines()]


async def test_a_model_made_of_an_upload_is_on_every_child_when_success_is_said(
    daemon: Daemon, model_store: Path
) -> None:
    (gguf,) = sorted((model_store / "blobs").iterdir(), key=lambda path: path.stat().st_size)[-1:]
    known = gguf.read_bytes()
    content = known[:-1] + bytes([known[-1] ^ 1])  # as much of a model as the other, and another blob
    digest = hashlib.sha256(content).hexdigest()
    async with aiohttp.ClientSession(daemon.base_url) as session:
        async with session.head(f"/api/blobs/sha256:{digest}") as answer:
            assert answer.status == 404
        async with session.post(f"/api/blobs/sha256:{digest}", data=io.BytesIO(content)) as answer:
            assert answer.status == 201
        async with session.head(f"/api/blobs/sha256:{digest}") as answer:
            assert answer.status == 200
        records = await post(session, "/api/create", model="made", modelfile=MODELFILE.format(digest))
        assert records[-1] == {"status": "success"}
        assert {RECITE, "made:latest"} <= (await everywhere(daemon))[0].keys()
        assert await all_same(daemon)
        whole = await post(session, "/api/create", model="again", modelfile=MODELFILE.format(digest), stream=False)
        assert whole == [{"status": "success"}]
        assert await all_same(daemon)
        shown = await post(session, "/api/show", model="MADE")
        assert shown[0]["details"]["family"] == "llama"


async def test_what_can_t_be_made_is_refused_in_the_child_s_words_and_changes_nothing(daemon: Daemon) -> None:
    before = await everywhere(daemon)
    async with aiohttp.ClientSession(daemon.base_url) as session:
        records = await post(session, "/api/create", model="bad", modelfile="FROM nobody-has-this/at:all")
        assert "error" in records[-1]
        for name in ("../x", "", "a b"):
            async with session.post("/api/create", json={"model": name, "modelfile": "FROM x"}) as answer:
                assert answer.status == 400
        async with session.post(f"/api/blobs/sha256:{'0' * 64}", data=b"other") as answer:
            assert answer.status == 400
        async with session.post("/api/blobs/nodigest", data=b"x") as answer:
            assert answer.status in {400, 500}
    assert await everywhere(daemon) == before


async def test_a_copy_and_a_deletion_are_true_of_every_child_at_once(daemon: Daemon) -> None:
    async with aiohttp.ClientSession(daemon.base_url) as session:
        async with session.post("/api/copy", json={"source": RECITE, "destination": "twin"}) as answer:
            assert (answer.status, await answer.read()) == (200, b"")
        first, *rest = await everywhere(daemon)
        assert "twin:latest" in first
        assert all(other == first for other in rest)
        async with session.delete("/api/delete", json={"model": "Twin"}) as answer:
            assert (answer.status, await answer.read()) == (200, b"")
        for listed in await everywhere(daemon):
            assert sorted(listed) == [RECITE_B, RECITE]
        async with session.delete("/api/delete", json={"model": "twin"}) as answer:
            assert (answer.status, await answer.json()) == (404, {"error": "model 'twin' not found"})


async def test_what_is_loaded_is_listed_with_its_child_and_unloaded_from_all(daemon: Daemon) -> None:
    async with aiohttp.ClientSession(daemon.base_url) as session:
        for port in await ports(daemon):
            async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as child:
                await post(child, "/api/generate", model=RECITE)

        async def loaded() -> list[tuple[str, str]]:
            async with session.get("/api/ps") as answer:
                return sorted((model["name"], model["child"]) for model in (await answer.json())["models"])

        assert await loaded() == [(RECITE, "cpu0"), (RECITE, "cpu1")]
        (told,) = await post(session, "/api/generate", model=RECITE, keep_alive=0)
        assert (told["done"], told["done_reason"]) == (True, "unload")

        async def none_left() -> bool:
            return await loaded() == []

        await until(none_left, daemon.explain)
        (told,) = await post(session, "/api/chat", model=RECITE, keep_alive=0, stream=False)
        assert told["done_reason"] == "unload"
        async with session.post("/api/generate", json={"model": "nobody", "keep_alive": 0}) as answer:
            assert (answer.status, await answer.json()) == (404, {"error": "model 'nobody' not found"})
            assert {"X-Ollamad-Child", "X-Ollamad-Queue-Ms"} <= {*answer.headers}


@pytest.mark.parametrize("daemon", ["per-child"], indirect=True)
async def test_what_is_done_to_a_child_directly_is_true_of_all_within_a_round(daemon: Daemon) -> None:
    first, second = await ports(daemon)

    async def listed(name: str, *, by_all: bool) -> bool:
        return all((name in listed) is by_all for listed in await everywhere(daemon))

    async with aiohttp.ClientSession(f"http://127.0.0.1:{second}") as child:
        async with child.post("/api/copy", json={"source": RECITE, "destination": "hidden"}) as answer:
            assert answer.status == 200
        await until(lambda: listed("hidden:latest", by_all=True), daemon.explain)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{first}") as child:
        async with child.delete("/api/delete", json={"model": "hidden"}) as answer:
            assert answer.status == 200
        await until(lambda: listed("hidden:latest", by_all=False), daemon.explain)
    rounds = (await daemon.status())["store"]["sync"]

    async def another_round() -> bool:
        return bool((await daemon.status())["store"]["sync"]["age_s"] < rounds["age_s"])

    await until(another_round, daemon.explain)
    assert await listed("hidden:latest", by_all=False)  # no sibling's copy undid it


@pytest.mark.parametrize("daemon", ["per-child"], indirect=True)
async def test_a_model_that_only_one_child_has_yet_is_run_by_that_child(daemon: Daemon) -> None:
    second = (await ports(daemon))[1]
    async with (
        aiohttp.ClientSession(f"http://127.0.0.1:{second}") as child,
        child.post("/api/copy", json={"source": RECITE, "destination": "hidden"}) as answer,
    ):
        assert answer.status == 200
    async with aiohttp.ClientSession(daemon.base_url) as session:
        request = {"model": "hidden", "prompt": "go", "stream": False, "options": {"num_predict": 2}}
        async with session.post("/api/generate", json=request) as answer:
            assert answer.status == 200


def _all_hold(roots: Sequence[Path], content: Mapping[str, bytes]) -> bool:
    """Whether these stores hold just that; a round may be moving files meanwhile."""
    with contextlib.suppress(FileNotFoundError):
        return all(files(root) == content for root in roots)
    return False


async def test_a_store_of_any_size_becomes_the_children_s_and_theirs_becomes_one_again_without_a_byte_copied(
    daemons: Daemons, ollama_binary: Path, model_store: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    await asyncio.to_thread(shutil.copytree, model_store, store)
    before, used_bytes = files(store), disk_bytes(store)
    own = [store / "children" / name for name in ("cpu0", "cpu1")]
    async with daemons.run(ollama_binary, {"models": {"store": "per-child"}}, store=store) as daemon:
        await until(lambda: daemon.said("models synchronized"), daemon.explain)
        await daemon.until_ready(2)
        await until(lambda: _all_hold(own, before), daemon.explain)
        assert disk_bytes(store, *own) == used_bytes
        async with aiohttp.ClientSession(daemon.base_url) as session:
            async with session.post("/api/copy", json={"source": RECITE, "destination": "new"}) as answer:
                assert answer.status == 200
            async with session.delete("/api/delete", json={"model": RECITE_B}) as answer:
                assert answer.status == 200
    async with daemons.run(ollama_binary, store=store) as daemon:
        await until(lambda: daemon.said("models synchronized"), daemon.explain)
        await daemon.until_ready(2)
        assert sorted(await tags(daemon.base_url)) == ["new:latest", RECITE]
    assert disk_bytes(store, *own) < used_bytes  # what was deleted takes no byte any more


@pytest.mark.parametrize("daemon", ["per-child"], indirect=True)
async def test_what_can_t_come_to_one_store_is_told_and_comes_there_when_it_can(daemon: Daemon, tmp_path: Path) -> None:
    manifests = tmp_path / "store" / "children" / "cpu1" / "manifests"
    await asyncio.to_thread(manifests.rename, manifests.with_name("aside"))
    await asyncio.to_thread(manifests.write_text, "in the way")
    async with aiohttp.ClientSession(daemon.base_url) as session:
        async with session.post("/api/copy", json={"source": RECITE, "destination": "twin"}) as answer:
            told = (await answer.json())["error"]
            assert answer.status == 500
        assert told.startswith("twin:latest is copied, but not on every child: cpu1:")
        records = await post(session, "/api/create", model="made", modelfile=f"FROM {RECITE}")
        assert records[-1]["error"].startswith("made:latest is made, but not on every child: cpu1:")
        async with session.delete("/api/delete", json={"model": RECITE_B}) as answer:
            told = (await answer.json())["error"]
            assert answer.status == 500
        assert told.startswith(f"{RECITE_B} is not deleted everywhere: cpu1:")
        request = {"model": "twin", "prompt": "go", "stream": False, "options": {"num_predict": 2}}
        async with session.post("/api/generate", json=request) as answer:
            assert (answer.status, answer.headers["X-Ollamad-Child"]) == (200, "cpu0")
    await asyncio.to_thread(manifests.unlink)
    await asyncio.to_thread(manifests.with_name("aside").rename, manifests)

    async def mended() -> bool:
        listed = await everywhere(daemon)
        return all(sorted(each) == ["made:latest", RECITE, "twin:latest"] for each in listed)

    await until(mended, daemon.explain)
