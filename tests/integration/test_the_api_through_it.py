"""Every kind of Ollama route through ollamad, on two real children, by the clients that people use."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import ollama
import openai
import pytest
from openai.types.chat import ChatCompletionUserMessageParam

from tests.support.daemon import Daemon, Daemons
from tests.support.real_ollama import RECITE, BareOllama, bare_ollama
from tests.support.reciting import WORDS, recitation


@asynccontextmanager
async def aclosing(client: ollama.AsyncClient) -> AsyncIterator[ollama.AsyncClient]:
    """The official client, closed at the end: it has `close`, not `aclose`."""
    try:
        yield client
    finally:
        await client.close()  # type: ignore[no-untyped-call]


@pytest.fixture
def store(model_store: Path, tmp_path: Path) -> Path:
    """A copy: what is refused as an upload stays in Ollama's store under its own digest."""
    return shutil.copytree(model_store, tmp_path / "store")


@pytest.fixture
async def daemon(daemons: Daemons, ollama_binary: Path, store: Path) -> AsyncIterator[Daemon]:
    async with daemons.run(ollama_binary, store=store) as running:
        await running.until_ready(2)
        yield running


@pytest.fixture
async def bare(ollama_binary: Path, store: Path, tmp_path: Path) -> AsyncIterator[BareOllama]:
    async with bare_ollama(ollama_binary, store, tmp_path / "bare-home") as running:
        yield running


async def test_the_official_client_chats_streams_embeds_and_looks_around(daemon: Daemon) -> None:
    async with aclosing(ollama.AsyncClient(daemon.base_url)) as client:
        await _look_around(client)


async def _look_around(client: ollama.AsyncClient) -> None:
    options = {"num_predict": 12}
    whole = await client.chat(RECITE, [{"role": "user", "content": "go"}], options=options)
    assert whole.message.content == recitation(WORDS, 12)
    parts = [part async for part in await client.generate(RECITE, "go", stream=True, options=options)]
    assert "".join(part.response or "" for part in parts) == recitation(WORDS, 12)
    assert parts[-1].done
    assert len(parts) >= 12
    assert RECITE in [model.model for model in (await client.list()).models]
    assert (await client.show(RECITE)).details
    assert RECITE in [model.model for model in (await client.ps()).models]
    assert len((await client.embed(RECITE, ["a", "b"])).embeddings) == 2


async def test_the_official_client_copies_creates_and_deletes(
    daemons: Daemons, ollama_binary: Path, tmp_path: Path, model_store: Path
) -> None:
    await asyncio.to_thread(_copy_store, model_store, tmp_path / "store")
    async with daemons.run(ollama_binary, store=tmp_path / "store") as running:
        await running.until_ready(2)
        async with aclosing(ollama.AsyncClient(running.base_url)) as client:
            await _change_things(client)


async def _change_things(client: ollama.AsyncClient) -> None:
    await client.copy(RECITE, "another")
    answers = [await client.generate("another", "go", options={"num_predict": 3}) for _ in range(4)]
    assert {answer.response for answer in answers} == {recitation(WORDS, 3)}
    await client.delete("another")
    with pytest.raises(ollama.ResponseError, match="not found"):
        await client.show("another")


async def test_the_openai_client_streams_and_answers_whole(daemon: Daemon) -> None:
    async with openai.AsyncOpenAI(base_url=f"{daemon.base_url}/v1", api_key="none", max_retries=0) as client:
        question: list[ChatCompletionUserMessageParam] = [{"role": "user", "content": "go"}]
        whole = await client.chat.completions.create(model=RECITE, messages=question, max_tokens=9)
        assert whole.choices[0].message.content == recitation(WORDS, 9)
        stream = await client.chat.completions.create(
            model=RECITE,
            messages=question,
            max_tokens=9,
            stream=True,
        )
        text = "".join([part.choices[0].delta.content or "" async for part in stream if part.choices])
        assert text == recitation(WORDS, 9)
        assert RECITE in [model.id async for model in client.models.list()]
        with pytest.raises(openai.NotFoundError, match="not found"):
            await client.chat.completions.create(model="nobody", messages=question)


async def test_curl_streams_with_the_form_type_that_it_sends_by_itself(daemon: Daemon) -> None:
    body = json.dumps({"model": RECITE, "prompt": "go", "options": {"num_predict": 5}})
    process = await asyncio.create_subprocess_exec(
        *(
            "curl",
            "--silent",
            "--show-error",
            "--no-buffer",
            "--include",
            f"{daemon.base_url}/api/generate",
            "-d",
            body,
        ),
        stdout=asyncio.subprocess.PIPE,
    )
    head, _, lines = (await process.communicate())[0].partition(b"\r\n\r\n")
    assert b"X-Ollamad-Child: cpu" in head
    assert re.search(rb"X-Ollamad-Queue-Ms: \d+", head)
    assert "".join(json.loads(line)["response"] for line in lines.splitlines()) == recitation(WORDS, 5)


async def test_answers_and_errors_are_the_child_s_own_byte_for_byte(daemon: Daemon, bare: BareOllama) -> None:
    requests = [
        ("GET", "/", None),
        ("HEAD", "/", None),
        ("GET", "/api/version", None),
        ("HEAD", "/api/tags", None),
        ("GET", "/api/tags", None),
        ("POST", "/api/show", b'{"model": "recite"}'),
        ("POST", "/api/show", b'{"model": "nobody"}'),
        ("POST", "/api/generate", b'{"model": "nobody", "prompt": "x"}'),
        ("POST", "/api/generate", b"{"),
        ("POST", "/api/generate", b""),
        ("POST", "/api/chat", b'{"messages": []}'),
        ("POST", "/v1/chat/completions", b'{"model": "nobody", "messages": [{"role": "user", "content": "x"}]}'),
        ("GET", "/v1/models/recite", None),
        ("GET", "/v1/models/nobody", None),
        ("DELETE", "/api/delete", b'{"model": "nobody"}'),
        ("POST", "/api/copy", b'{"source": "nobody", "destination": "x"}'),
        ("HEAD", f"/api/blobs/sha256:{'0' * 64}", None),
        ("POST", f"/api/blobs/sha256:{'0' * 64}", b"not that"),
        ("GET", "/api/no/such/route?x=%2F&y=a+b", None),
        ("PUT", "/api/tags", None),
        ("GET", "/api/generate", None),
    ]
    async with aiohttp.ClientSession() as session:
        for method, path, body in requests:
            through = await _answer(session, method, daemon.base_url + path, body)
            assert through == await _answer(session, method, bare.base_url + path, body), (method, path)


async def test_a_blob_uploaded_is_found_again(daemons: Daemons, ollama_binary: Path) -> None:
    content = b"some bytes that are no model"
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    async with daemons.run(ollama_binary) as daemon, aiohttp.ClientSession(daemon.base_url) as session:
        async with session.post(f"/api/blobs/{digest}", data=content) as made:
            assert made.status == 201
        async with session.head(f"/api/blobs/{digest}") as found:
            assert found.status == 200


async def _answer(session: aiohttp.ClientSession, method: str, url: str, sent: bytes | None) -> tuple[object, ...]:
    async with session.request(method, url, data=sent) as answer:
        kept = ("Content-Type", "Content-Length", "Allow", "Location")
        body = await answer.read()
        if answer.ok and url.endswith(("/api/tags", "/v1/models")) and body:
            # Ollama sorts by the second of the change, and those of one second as it likes (0.5.4).
            body = json.dumps(sorted(json.loads(body)["models"], key=str)).encode()
        return answer.status, [answer.headers.get(name) for name in kept], body


def _copy_store(source: Path, target: Path) -> None:
    for path in source.rglob("*"):
        copy = target / path.relative_to(source)
        if path.is_dir():
            copy.mkdir(parents=True, exist_ok=True)
        else:
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
