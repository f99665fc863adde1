"""What Ollama's answers mean, whoever gives them: several Ollamas behind one address have to mean it as one."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from ollamad.sim.models import put_model
from ollamad.sim.names import parse
from ollamad.sim.registry import registry
from ollamad.sim.store import Store
from tests.contract.targets import Target
from tests.support.daemon import until
from tests.support.reciting import WORDS, recitation, write_reciting_model

pytestmark = pytest.mark.asyncio(loop_scope="session")

UNLOAD_S = 5.0
"""Far longer than it takes, and far shorter than any keep-alive."""
ONE_THREAD = {"num_thread": 1}
"""Threads of several runners at work spin, waiting for each other's cores."""
GO = [{"role": "user", "content": "go"}]


class Api:
    """A target, and how a test asks it."""

    def __init__(self, target: Target, session: aiohttp.ClientSession) -> None:
        self.target = target
        self.session = session

    async def post(self, path: str, body: object, method: str = "POST") -> tuple[int, list[dict[str, Any]]]:
        """Ask; the status, and the records of the answer."""
        async with self.session.request(method, path, json=body) as answer:
            return answer.status, [json.loads(line) async for line in answer.content if line.strip()]

    async def generate(self, model: str = "recite", **body: Any) -> list[dict[str, Any]]:
        """The records of an answer that is fine."""
        status, records = await self.post("/api/generate", {"model": model, "prompt": "go", **body})
        assert status == 200, records
        return records

    async def loaded(self) -> list[str]:
        """The names in `/api/ps`."""
        async with self.session.get("/api/ps") as answer:
            return [model["name"] for model in (await answer.json())["models"]]

    async def names(self) -> list[str]:
        """The names in `/api/tags`."""
        async with self.session.get("/api/tags") as answer:
            return [model["name"] for model in (await answer.json())["models"]]

    async def unload(self) -> None:
        """Ask each model to go, as often as there are children; and wait until none is loaded.

        A model that was loaded by a name that is gone goes with another name of its weights.
        """

        async def gone() -> bool:
            names = await self.loaded()
            for name in {*names, "recite", "recite-b"}:
                await self.post("/api/generate", {"model": name, "keep_alive": 0})
            return not names

        await until(gone)

    async def forget(self, model: str) -> None:
        """Unload and delete a model: once it is deleted, nothing but time unloads it."""
        await self.unload()
        assert (await self.post("/api/delete", {"model": model}, "DELETE"))[0] == 200


@pytest_asyncio.fixture(loop_scope="session")
async def api(target: Target) -> AsyncIterator[Api]:
    async with aiohttp.ClientSession(target.base_url) as session:
        yield Api(target, session)


def text_of(records: list[dict[str, Any]]) -> str:
    return "".join(record.get("response", "") for record in records)


async def test_a_stream_has_a_record_for_each_token_and_one_that_ends_it(api: Api) -> None:
    records = await api.generate(options={"num_predict": 40})
    assert [record["response"] for record in records] == [f" w{number}" for number in range(40)] + [""]
    assert [record["done"] for record in records] == [False] * 40 + [True]
    assert records[-1]["eval_count"] == 40


async def test_events_end_with_done(api: Api) -> None:
    body = {"model": "recite", "messages": GO, "max_tokens": 5, "stream": True}
    async with api.session.post("/v1/chat/completions", json=body) as answer:
        assert answer.content_type == "text/event-stream"
        events = (await answer.text()).split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    deltas = [json.loads(event.removeprefix("data: "))["choices"][0]["delta"]["content"] for event in events[:-2]]
    assert "".join(deltas) == recitation(WORDS, 5)


async def test_streams_at_once_are_each_whole(api: Api) -> None:
    streams = (api.generate(options={"num_predict": 50 + number, **ONE_THREAD}) for number in range(8))
    for number, records in enumerate(await asyncio.gather(*streams)):
        assert text_of(records) == recitation(WORDS, 50 + number)


async def test_a_request_without_a_prompt_loads_and_the_model_is_listed(api: Api) -> None:
    await api.unload()
    status, records = await api.post("/api/generate", {"model": "recite"})
    assert (status, records[0]["done_reason"]) == (200, "load")
    assert await api.loaded() == ["recite:latest"]
    status, records = await api.post("/api/chat", {"model": "RECITE", "messages": []})
    assert (status, records[0]["done_reason"]) == (200, "load")


async def test_one_request_to_unload_is_enough(api: Api) -> None:
    await api.unload()
    options = {"num_predict": 300, **ONE_THREAD}
    await asyncio.gather(*(api.generate(options=options) for _ in range(2 * api.target.children)))
    assert "recite:latest" in await api.loaded()
    status, records = await api.post("/api/generate", {"model": "recite", "keep_alive": 0})
    assert (status, records[0]["done_reason"]) == (200, "unload")

    async def gone() -> bool:
        return not await api.loaded()

    async with asyncio.timeout(UNLOAD_S):
        await until(gone)


@pytest.mark.parametrize("keep_alive", [-1, "-1s"])
async def test_a_negative_keep_alive_is_forever(api: Api, keep_alive: object) -> None:
    await api.unload()
    await api.post("/api/generate", {"model": "recite", "keep_alive": keep_alive})
    async with api.session.get("/api/ps") as answer:
        (model,) = (await answer.json())["models"]
    assert model["expires_at"].startswith("23")
    await api.unload()


async def test_a_keep_alive_stays_in_force_for_requests_that_say_none(api: Api) -> None:
    await api.unload()
    await api.post("/api/generate", {"model": "recite", "keep_alive": -1})
    await api.generate(options={"num_predict": 2})
    async with api.session.get("/api/ps") as answer:
        kept = [model["expires_at"] for model in (await answer.json())["models"]]
    assert "23" in [time[:2] for time in kept], "of several Ollamas another may have loaded it, by its own default"
    await api.unload()


async def test_a_model_goes_when_its_keep_alive_is_over(api: Api) -> None:
    await api.unload()
    await api.generate(options={"num_predict": 2}, keep_alive=1)

    async def gone() -> bool:
        return not await api.loaded()

    await until(gone)


async def test_who_leaves_a_stream_holds_up_nobody(api: Api, request: pytest.FixtureRequest) -> None:
    if request.node.callspec.params["target"].startswith("newer-"):
        pytest.skip("a bare Ollama 0.9.3 now and then never gives back the slot of a client that left")
    for _ in range(2 * api.target.children):
        async with api.session.post("/api/generate", json={"model": "recite", "prompt": "go"}) as endless:
            await endless.content.readline()
            endless.close()
    records = await asyncio.gather(*(api.generate(options={"num_predict": 5}) for _ in range(4)))
    assert {text_of(each) for each in records} == {recitation(WORDS, 5)}


async def test_a_blob_uploaded_once_makes_a_model_for_all(api: Api, tmp_path: Path) -> None:
    words = ("u0", "u1", "u2")
    await asyncio.to_thread(write_reciting_model, tmp_path / "model.gguf", words)
    content = (tmp_path / "model.gguf").read_bytes()
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    async with api.session.head(f"/api/blobs/{digest}") as unknown:
        assert unknown.status == 404
    for status in (201, 200):
        async with api.session.post(f"/api/blobs/{digest}", data=io.BytesIO(content)) as made:
            assert made.status == status
    async with api.session.head(f"/api/blobs/{digest}") as known:
        assert known.status == 200
    either = {"modelfile": f"FROM @{digest}", "files": {"model.gguf": digest}}  # as 0.5.4 has it, and all since
    _, told = await api.post("/api/create", {"model": "uploaded", **either})
    assert told[-1] == {"status": "success"}, told
    for _ in range(2 * api.target.children):
        assert text_of(await api.generate("uploaded", options={"num_predict": 4})) == recitation(words, 4)
    await api.forget("uploaded")
    assert "uploaded:latest" not in await api.names()


async def test_a_wrong_blob_is_not_kept_under_the_promised_digest(api: Api) -> None:
    digest = f"sha256:{hashlib.sha256(b'promised').hexdigest()}"
    async with api.session.post(f"/api/blobs/{digest}", data=b"something else") as answer:
        assert answer.status == 400
        assert "digest mismatch" in (await answer.json())["error"]
    async with api.session.head(f"/api/blobs/{digest}") as known:
        assert known.status == 404


async def test_a_model_is_gone_for_all_when_it_is_deleted(api: Api) -> None:
    await api.post("/api/copy", {"source": "recite", "destination": "twin"})
    await asyncio.gather(*(api.generate("twin", options={"num_predict": 20}) for _ in range(2 * api.target.children)))
    assert (await api.post("/api/delete", {"model": "twin"}, "DELETE"))[0] == 200
    for _ in range(2 * api.target.children):
        assert (await api.post("/api/generate", {"model": "twin", "prompt": "go"}))[0] == 404
        assert (await api.post("/api/show", {"model": "twin"}))[0] == 404
    assert (await api.post("/api/delete", {"model": "twin"}, "DELETE"))[0] == 404


async def test_a_model_is_pulled_from_a_registry_and_runs_everywhere(api: Api, model_store: Path) -> None:
    async with registry(Store(model_store)) as host:
        name = f"http://{host}/library/recite-b"
        status, records = await api.post("/api/pull", {"model": name, "insecure": True})
        assert (status, records[0], records[-1]) == (200, {"status": "pulling manifest"}, {"status": "success"})
        pulled = f"{host}/library/recite-b"
        assert f"{pulled}:latest" in await api.names()
        for _ in range(2 * api.target.children):
            assert text_of(await api.generate(pulled, options={"num_predict": 2})) == " b0 b1"
        again = await api.post("/api/pull", {"model": name, "insecure": True, "stream": False})
        assert again == (200, [{"status": "success"}])
        await api.forget(pulled)


async def test_a_model_that_a_registry_lacks_is_told_in_the_stream(api: Api, model_store: Path) -> None:
    async with registry(Store(model_store)) as host:
        status, records = await api.post("/api/pull", {"model": f"http://{host}/library/nobody", "insecure": True})
    assert status == 200
    assert records[-1] == {"error": "pull model manifest: file does not exist"}


async def test_two_who_pull_one_model_both_hear_of_its_success(api: Api, tmp_path: Path) -> None:
    words = ("p0", "p1", "p2", "p3")
    await asyncio.to_thread(write_reciting_model, tmp_path / "model.gguf", words)
    remote = Store(tmp_path / "registry")
    await asyncio.to_thread(put_model, remote, "pulled", tmp_path / "model.gguf")
    async with registry(remote) as host:
        pulls = (api.post("/api/pull", {"model": f"http://{host}/library/pulled", "insecure": True}) for _ in range(2))
        for status, records in await asyncio.gather(*pulls):
            assert (status, records[-1]) == (200, {"status": "success"}), records
        for _ in range(2 * api.target.children):
            records = await api.generate(f"{host}/library/pulled", options={"num_predict": 5})
            assert text_of(records) == recitation(words, 5)
        await api.forget(f"{host}/library/pulled")


async def test_a_model_is_pushed_to_a_registry(api: Api, tmp_path: Path) -> None:
    pushed = Store(tmp_path / "registry")
    async with registry(pushed) as host:
        await api.post("/api/copy", {"source": "recite", "destination": f"{host}/library/mine"})
        body = {"model": f"http://{host}/library/mine", "insecure": True}
        status, records = await api.post("/api/push", body)
        assert (status, records[-1]) == (200, {"status": "success"}), records
        await api.post("/api/delete", {"model": f"{host}/library/mine"}, "DELETE")
    manifest = pushed.manifest(parse("mine"))
    for layer in (manifest.config, *manifest.layers):
        assert pushed.blob(layer.digest).stat().st_size == layer.size
