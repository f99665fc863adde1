"""The two setups that people make by hand: a script that owns two servers, and nginx in front. Both, with ollamad."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import ollama
import pytest

from ollamad.demo.parts import default_cache
from tests.support.daemon import Daemon, Daemons, until
from tests.support.debian import debian_program
from tests.support.real_ollama import RECITE, bare_ollama, free_port
from tests.support.reciting import WORDS, recitation

QUESTIONS = [f"question {number}" for number in range(5)]
OPTIONS = {"num_predict": 8}


def alternate_between_two_clients(first: str, second: str) -> list[str | None]:
    """The script that people write: two servers of one's own, and a client for each, taken in turn."""
    clients = [ollama.Client(host=first), ollama.Client(host=second)]
    answers = []
    for number, question in enumerate(QUESTIONS):
        client = clients[number % len(clients)]
        response = client.chat(model=RECITE, messages=[{"role": "user", "content": question}], options=OPTIONS)
        answers.append(response.message.content)
    clients[0].show(RECITE)
    for client in clients:
        client.close()  # type: ignore[no-untyped-call]
    return answers


def one_client(address: str) -> list[str | None]:
    """The same script on ollamad's address."""
    with ollama.Client(host=address) as client:
        answers = []
        for question in QUESTIONS:
            response = client.chat(model=RECITE, messages=[{"role": "user", "content": question}], options=OPTIONS)
            answers.append(response.message.content)
        assert client.show(RECITE).details
    return answers


async def test_the_script_with_two_clients_becomes_a_script_with_one(
    daemons: Daemons, ollama_binary: Path, model_store: Path, tmp_path: Path
) -> None:
    async with (
        bare_ollama(ollama_binary, model_store, tmp_path / "home-a") as first,
        bare_ollama(ollama_binary, model_store, tmp_path / "home-b") as second,
        daemons.run(ollama_binary, store=model_store) as daemon,
    ):
        by_hand = await asyncio.to_thread(alternate_between_two_clients, first.base_url, second.base_url)
        through_it = await asyncio.to_thread(one_client, daemon.base_url)
    assert by_hand == through_it == [recitation(WORDS, 8)] * 5


async def test_chats_that_overlap_use_both_children(daemons: Daemons, ollama_binary: Path, model_store: Path) -> None:
    async with daemons.run(ollama_binary, store=model_store) as daemon:
        await daemon.until_ready(2)
        loop = asyncio.get_running_loop()

        async def both_have_served() -> bool:
            with ThreadPoolExecutor(2) as users:
                await asyncio.gather(*(loop.run_in_executor(users, one_client, daemon.base_url) for _ in range(2)))
            return {event["child"] for event in daemon.said("request") if event["path"] == "/api/chat"} == {
                "cpu0",
                "cpu1",
            }

        await until(both_have_served, daemon.explain)  # the two need not overlap on a busy machine


NGINX = """\
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass {upstream};
            proxy_set_header Host $host;
            proxy_set_header X-Real-IP $remote_addr;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_buffering off;
            proxy_read_timeout 1h;
            client_max_body_size 0;
        }}
    }}
}}
"""
"""What docs/DEPLOY.md tells people to write, and what it takes to run nginx beside a test."""


@asynccontextmanager
async def nginx_before(daemon: Daemon, folder: Path) -> AsyncIterator[str]:
    """A real nginx in front of ollamad; gives its base URL."""
    program = await asyncio.to_thread(debian_program, "nginx", "usr/sbin/nginx", default_cache())
    port = free_port()
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port, upstream=daemon.base_url))
    server = await asyncio.create_subprocess_exec(
        *(program, "-p", folder, "-c", folder / "nginx.conf", "-e", folder / "error.log"),
        env={"PATH": os.environ["PATH"]},
    )

    async def answers() -> bool:
        assert server.returncode is None, (folder / "error.log").read_text()
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.close()
        return True

    try:
        await until(answers)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        await server.wait()


async def test_requests_pass_a_real_nginx_with_the_headers_that_people_configure(
    daemons: Daemons, ollama_binary: Path, model_store: Path, tmp_path: Path
) -> None:
    config = {"proxy": {"allowed_hosts": ["chat.example.com"]}}
    async with daemons.run(ollama_binary, config, store=model_store) as daemon:
        await daemon.until_ready(2)
        async with nginx_before(daemon, tmp_path) as base_url, aiohttp.ClientSession(base_url) as session:
            request = {"model": RECITE, "messages": [{"role": "user", "content": "go"}], "options": OPTIONS}
            async with session.post("/api/chat", json=request, headers={"Host": "chat.example.com"}) as answer:
                records = [json.loads(line) async for line in answer.content]
            assert "".join(record["message"]["content"] for record in records) == recitation(WORDS, 8)
            async with session.get("/api/tags", headers={"Host": "elsewhere.example.com"}) as answer:
                assert answer.status == 403


@pytest.mark.parametrize("path", ["/api/generate", "/v1/chat/completions"])
async def test_a_stream_passes_nginx_and_ollamad_record_by_record(
    daemons: Daemons, odd_ollama: Path, tmp_path: Path, path: str
) -> None:
    orders = tmp_path / "orders"
    orders.mkdir()
    (orders / "all.gate").touch()
    config = {"ollama": {"env": {"ODD_ORDERS": str(orders)}}}
    async with (
        daemons.run(odd_ollama, config) as daemon,
        nginx_before(daemon, tmp_path) as base_url,
        aiohttp.ClientSession(base_url) as session,
        session.post(path, json={"model": "m"}) as answer,
    ):
        assert b"one" in await answer.content.readany()
        (orders / "all.gate").unlink()
        assert b"two" in await answer.content.read()
