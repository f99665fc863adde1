"""API keys from end to end: made by ollamactl, sent by real clients, counted, revoked, and told to nobody."""

from __future__ import annotations

import asyncio
import itertools
import json
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
import ollama
import openai
import pytest

from ollamad.sim.models import Shape, write_model
from ollamad.sim.store import Store
from tests.support.control_face import ollamactl
from tests.support.daemon import Daemon, Daemons, until
from tests.support.registry import big_file, registry
from tests.support.simulated import MODEL
from tests.support.wire import OK, Talk, fronted

OTHER: Final = "other"


@pytest.fixture
def two_models(sim_store: Path) -> Path:
    """A store with MODEL and OTHER."""
    write_model(Store(sim_store), OTHER, Shape(size_bytes=6 * 1024**3))
    return sim_store


@asynccontextmanager
async def closed(
    daemons: Daemons, program: Path, store: Path, tables: dict[str, dict[str, Any]] | None = None
) -> AsyncIterator[Daemon]:
    """A daemon that asks for keys."""
    access = {"keys_file": str(store.parent / "keys.toml"), "look_interval_s": 0.1}
    async with daemons.run(program, {**(tables or {}), "access": access}, store=store) as daemon:
        await daemon.until_ready(2)
        yield daemon


async def make(daemon: Daemon, *arguments: str) -> str:
    """A key by `ollamactl key create`."""
    code, out, err = await ollamactl("--socket", str(daemon.control), "key", "create", *arguments)
    assert code == 0, err
    return out.strip()


async def test_each_api_s_clients_are_refused_in_their_own_words(
    daemons: Daemons, sim_ollama: Path, two_models: Path
) -> None:
    async with closed(daemons, sim_ollama, two_models) as daemon:
        key = await make(daemon, "chat", "--model", "sim*", "--scope", "infer", "--scope", "read", "--rate", "4")
        chat: Any = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}
        async with openai.AsyncOpenAI(api_key="wrong", base_url=f"{daemon.base_url}/v1", max_retries=0) as client:
            with pytest.raises(openai.AuthenticationError) as unknown:
                await client.models.list()
            assert unknown.value.code == "invalid_api_key"
            client.api_key = key
            assert [model.id async for model in client.models.list()] == [f"{MODEL}:latest"]
            assert (await client.chat.completions.create(model=MODEL, **chat)).choices[0].message.content
            with pytest.raises(openai.PermissionDeniedError):
                await client.chat.completions.create(model=OTHER, **chat)
        async with ollama.AsyncClient(daemon.base_url, headers={"Authorization": f"Bearer {key}"}) as talker:
            assert [model.model for model in (await talker.list()).models] == [f"{MODEL}:latest"]
            with pytest.raises(ollama.ResponseError) as often:
                await talker.ps()
            assert (often.value.status_code, "times a minute" in str(often.value)) == (429, True)
        async with aiohttp.ClientSession(daemon.base_url) as session:
            async with session.post("/v1/messages", json={}, headers={"x-api-key": key}) as answer:
                told = await answer.json()
                assert (answer.status, told["type"], told["error"]["type"]) == (429, "error", "rate_limit_error")
                assert int(answer.headers["Retry-After"]) >= 1
            async with session.get("/api/tags") as answer:
                assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, 'Bearer realm="ollamad"')


async def test_not_even_the_length_of_a_list_tells_of_models_that_a_key_is_not_for(
    daemons: Daemons, sim_ollama: Path, two_models: Path
) -> None:
    for number in range(20):  # a list so long that a child sends it in chunks
        write_model(Store(two_models), f"{MODEL}-{number}", Shape(size_bytes=1024**3))
    async with closed(daemons, sim_ollama, two_models) as daemon, aiohttp.ClientSession(daemon.base_url) as session:
        for arguments in (("some", "--model", MODEL), ("more", "--model", f"{MODEL}*")):
            headers = {"X-Api-Key": await make(daemon, *arguments)}
            async with (
                session.get("/api/tags", headers=headers) as whole,
                session.head("/api/tags", headers=headers) as head,
            ):
                assert head.headers["Content-Length"] == str(len(await whole.read())), arguments
                assert (head.status, await head.read()) == (200, b"")


async def test_without_the_scope_nobody_changes_models_and_with_it_ollamactl_still_does(
    daemons: Daemons, sim_ollama: Path, two_models: Path
) -> None:
    async with closed(daemons, sim_ollama, two_models) as daemon, aiohttp.ClientSession(daemon.base_url) as session:
        headers = {"Authorization": f"Bearer {await make(daemon, 'chat')}"}
        for method, path, body in (
            ("POST", "/api/pull", {"model": "x"}),
            ("POST", "/api/push", {"model": OTHER}),
            ("POST", "/api/create", {"model": "x", "from": OTHER}),
            ("POST", "/api/copy", {"source": OTHER, "destination": "x"}),
            ("DELETE", "/api/delete", {"model": OTHER}),
            ("POST", f"/api/blobs/sha256:{'0' * 64}", {}),
            ("POST", "/api/signout", {}),
            ("PATCH", "/api/tomorrow", {}),
        ):
            async with session.request(method, path, json=body, headers=headers) as answer:
                assert (answer.status, "manage" in await answer.text()) == (403, True), path
        code, out, err = await ollamactl("--socket", str(daemon.control), "models")
        assert (code, OTHER in out) == (0, True), err
        assert (await ollamactl("--socket", str(daemon.control), "rm", OTHER))[0] == 0
        manager = {"Authorization": f"Bearer {await make(daemon, 'ops', '--scope', 'manage')}"}
        async with session.delete("/api/delete", json={"model": MODEL}, headers=manager) as answer:
            assert answer.status == 200
        async with session.get("/api/tags", headers=manager) as answer:
            assert answer.status == 403


async def test_a_page_that_may_ask_can_find_out_that_it_needs_a_key(
    daemons: Daemons, sim_ollama: Path, sim_store: Path
) -> None:
    page = {"Origin": "http://localhost:3000", "Access-Control-Request-Headers": "authorization,x-api-key"}
    async with closed(daemons, sim_ollama, sim_store) as daemon, aiohttp.ClientSession(daemon.base_url) as session:
        async with session.options("/v1/messages", headers=page) as answer:
            assert answer.status == 204
            allowed = answer.headers["Access-Control-Allow-Headers"].lower().split(",")
            assert {"authorization", "x-api-key", "anthropic-version"} <= {*allowed}
        async with session.post("/v1/messages", json={}, headers=page) as answer:
            assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (401, "http://localhost:3000")
        async with session.options("/v1/messages", headers={**page, "Origin": "https://evil.example"}) as answer:
            assert answer.status == 403


SLOW: Final[dict[str, dict[str, Any]]] = {"ollama": {"env": {"SIM_DECODE_FIXED_S": "0.02"}}}
LONG: Final[dict[str, Any]] = {"options": {"num_predict": 100_000}}


async def revoke(daemon: Daemon, *arguments: str) -> str:
    """What `ollamactl key revoke` says."""
    code, out, err = await ollamactl("--socket", str(daemon.control), "key", "revoke", *arguments)
    assert code == 0, err
    return out


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/api/generate", {"prompt": "hi"}),
        ("/api/chat", {"messages": [{"role": "user", "content": "hi"}]}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}], "stream": True}),
    ],
)
async def test_what_a_revoked_key_has_in_flight_ends_with_an_error_in_its_own_format(
    daemons: Daemons, sim_ollama: Path, sim_store: Path, path: str, said: dict[str, Any]
) -> None:
    async with (
        closed(daemons, sim_ollama, sim_store, SLOW) as daemon,
        aiohttp.ClientSession(daemon.base_url) as session,
    ):
        leaked, kept = [{"Authorization": f"Bearer {await make(daemon, name)}"} for name in ("leaked", "kept")]
        body = {"model": MODEL, "max_tokens": 100_000, **LONG, **said}
        async with (
            session.post(path, json=body, headers=leaked) as stream,
            session.post(path, json=body, headers=kept) as other,
        ):
            await stream.content.readline()
            await other.content.readline()
            assert "1 request of it ended" in await revoke(daemon, "leaked")
            last = (await stream.content.read()).decode().strip().splitlines()[-1].removeprefix("data: ")
            error = json.loads(last)["error"]
            assert "has been revoked" in (error if isinstance(error, str) else error["message"])
            assert await other.content.readline(), "another key's go on"
        async with session.get("/api/tags", headers=leaked) as answer:
            assert answer.status == 401

        def all_have_ended() -> bool:
            return daemon.said("request") != [] and all(
                entry["outcome"] in {"revoked", "client_left"} for entry in daemon.said("request") if entry.get("child")
            )

        await until(all_have_ended, daemon.explain)
        assert not daemon.said("child refused"), "no child is blamed"


async def test_what_a_revoked_key_waits_for_ends_with_401_whether_a_child_has_it_or_not(
    daemons: Daemons, sim_ollama: Path, sim_store: Path
) -> None:
    """One child with one slot, and a model that takes for ever to load: one request is with it, one waits in line."""
    tables: dict[str, dict[str, Any]] = {
        "ollama": {"env": {"SIM_LOAD_FIXED_S": "600"}},
        "gpus": {"cpu_children": 1},
        "access": {"keys_file": str(sim_store.parent / "keys.toml")},
    }
    async with aiohttp.ClientSession() as session, daemons.run(sim_ollama, tables, store=sim_store) as daemon:
        await daemon.until_ready(1)
        headers = {"Authorization": f"Bearer {await make(daemon, 'leaked')}"}
        body = {"model": MODEL, "prompt": "hi"}

        async def asked() -> tuple[int, str]:
            async with session.post(f"{daemon.base_url}/api/generate", json=body, headers=headers) as answer:
                return answer.status, (await answer.json())["error"]

        async def in_flight() -> bool:
            _, out, _ = await ollamactl("--socket", str(daemon.control), "--json", "key", "list")
            return bool(json.loads(out)["keys"][0]["in_flight"] == 2)

        async with asyncio.TaskGroup() as tasks:
            both = [tasks.create_task(asked()) for _ in range(2)]
            await until(in_flight, daemon.explain)
            assert "2 requests of it ended" in await revoke(daemon, "leaked")
        assert {(status, "has been revoked" in text) for status, text in (one.result() for one in both)} == {
            (401, True)
        }


async def test_who_follows_a_pull_with_a_revoked_key_is_told_and_the_pull_goes_on(
    daemons: Daemons, ollama_binary: Path, tmp_path: Path
) -> None:
    """On a real Ollama."""
    async with (
        registry(tmp_path / "registry") as source,
        closed(daemons, ollama_binary, tmp_path / "store") as daemon,
        aiohttp.ClientSession(daemon.base_url) as session,
    ):
        source.add("big", ("model", await asyncio.to_thread(big_file, tmp_path / "big", 8 << 20)))
        source.hold_after(4 << 20)
        headers = {"Authorization": f"Bearer {await make(daemon, 'ops', '--scope', 'manage')}"}
        body = {"model": source.name("big"), "insecure": True}
        async with session.post("/api/pull", json=body, headers=headers) as stream:
            await stream.content.readline()
            assert "1 request of it ended" in await revoke(daemon, "ops")
            last = json.loads((await stream.content.read()).splitlines()[-1])
            assert "has been revoked" in last["error"]
        source.release()
        await until(lambda: daemon.said("pull ended"), daemon.explain)
        assert "error" not in daemon.said("pull ended")[0] or daemon.said("pull ended")[0]["error"] is None


async def test_a_revoked_key_may_be_let_finish_and_a_changed_file_is_believed(
    daemons: Daemons, sim_ollama: Path, sim_store: Path
) -> None:
    async with (
        closed(daemons, sim_ollama, sim_store, SLOW) as daemon,
        aiohttp.ClientSession(daemon.base_url) as session,
    ):
        headers = {"Authorization": f"Bearer {await make(daemon, 'chat', '--concurrent', '1')}"}
        body = {"model": MODEL, "prompt": "hi", "options": {"num_predict": 40}}
        async with session.post("/api/generate", json=body, headers=headers) as stream:
            assert stream.status == 200
            await stream.content.readline()
            async with session.get("/api/tags", headers=headers) as answer:
                assert answer.status in {200, 429}, "it has one in flight, if that is not over"
            assert "ended" not in await revoke(daemon, "chat", "--let-finish")
            async with session.get("/api/tags", headers=headers) as answer:
                assert answer.status == 401
            assert json.loads((await stream.content.read()).splitlines()[-1])["done"], "what has begun goes on"
        other = await make(daemon, "other")
        file = sim_store.parent / "keys.toml"
        file.write_text("# nobody\n")

        async def unknown() -> bool:
            async with session.get("/api/tags", headers={"X-Api-Key": other}) as answer:
                return answer.status == 401

        await until(unknown, daemon.explain)


@pytest.mark.parametrize(
    ("text", "mode", "told"),
    [("[keys", 0o600, "holds no keys"), ("", 0o644, "is open to others (mode 0644): chmod 600")],
)
async def test_it_does_not_start_with_a_file_of_keys_that_can_not_be_used(
    daemons: Daemons, sim_ollama: Path, tmp_path: Path, text: str, mode: int, told: str
) -> None:
    file = tmp_path / "keys.toml"
    file.write_text(text)
    file.chmod(mode)
    with pytest.raises(AssertionError) as refused:
        async with daemons.run(sim_ollama, {"access": {"keys_file": str(file)}}):
            pass
    assert f"access.keys_file = {file}: {told}" in str(refused.value)


async def test_a_child_does_not_get_the_key() -> None:
    heads: list[bytes] = []

    async def script(talk: Talk) -> None:
        heads.append((await talk.request())[0].lower())
        await talk.say(OK)

    async with fronted(script) as running:
        fields = b"Authorization: Bearer geheim\r\nx-API-key: geheim\r\nX-Kept: 1\r\nConnection: close\r\n"
        await running.ask(b"GET /x HTTP/1.1\r\nHost: localhost\r\n%b\r\n" % fields)
    assert b"x-kept" in heads[0]
    assert b"geheim" not in heads[0]


async def test_no_secret_is_told_to_anybody_and_files_of_secrets_stay_their_owner_s(
    daemons: Daemons, ollama_binary: Path, model_store: Path, tmp_path: Path
) -> None:
    """On a real Ollama, with the log at its most talkative, after requests of every kind."""
    keys_file = tmp_path / "keys.toml"
    tables: dict[str, dict[str, Any]] = {
        "access": {"keys_file": str(keys_file)},
        "ollama": {"env": {"OLLAMA_API_KEY": "geheim-1", "HTTPS_PROXY": "http://me:geheim-2@127.0.0.1:1"}},
    }
    async with daemons.run(ollama_binary, tables, store=model_store) as daemon:
        await daemon.until_ready(2)
        key = await make(daemon, "chat", "--scope", "infer", "--scope", "read", "--scope", "status")
        secret = key.rpartition("_")[2]
        told = [text async for text in _answers(daemon, key)]
        assert any('key="chat"' in text for text in told), "its name is no secret"
        assert [entry for entry in daemon.said("request") if entry.get("key") == "chat"]
        told += [" ".join(process.cmdline()) for process in daemon.all_processes() if process.is_running()]
    told.append((daemon.folder / "log").read_text(errors="replace"))
    assert not [text for text in told if secret in text or "geheim" in text]
    for file in (keys_file, daemon.home / ".ollama" / "id_ed25519"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


async def _answers(daemon: Daemon, key: str) -> AsyncIterator[str]:
    """What can be had of a daemon by requests good and bad, and by looking."""
    ports = [int(url.rpartition(":")[2]) for url in (daemon.base_url, daemon.status_url)]
    words = (key, f"{key}x", key[:-1], "geheim-3")
    paths = (("GET", "/api/tags"), ("POST", "/v1/messages"), ("POST", "/api/chat"))
    async with aiohttp.ClientSession() as session:
        for word, (method, path) in itertools.product(words, paths):
            for headers in ({"Authorization": f"Bearer {word}"}, {"X-Api-Key": word}):
                async with session.request(method, daemon.base_url + path, headers=headers) as answer:
                    yield await answer.text()
    no_requests = (
        f"GET / HTTP/1.1\r\nX-Api-Key: {key}\0\r\n\r\n",
        f"{key}\r\n\r\n",
        f"GET http://a:99999/{key} HTTP/1.1\r\nHost: localhost\r\n\r\n",
    )
    for port, raw in itertools.product(ports, no_requests):
        yield await _raw(port, raw)
    for path in ("/status", "/metrics"):
        yield await _raw(ports[1], f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")
    for command in ("status", "requests", "models", "key list"):
        _, out, err = await ollamactl("--socket", str(daemon.control), "--json", *command.split())
        yield out + err


async def _raw(port: int, data: str) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data.encode())
    try:
        async with asyncio.timeout(10):
            return (await reader.read()).decode("latin-1")
    finally:
        writer.close()
