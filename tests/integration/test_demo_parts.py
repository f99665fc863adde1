from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import aiohttp
import pytest

from ollamad.demo.gemma import register
from ollamad.demo.parts import packaged_ollama
from ollamad.errors import StartError
from tests.support.real_ollama import RECITE, RECITE_B, WORDS_B, bare_ollama, free_port
from tests.support.reciting import TEMPLATE, WORDS, recitation, write_reciting_model


async def _generated(base_url: str, model: str, **options: float) -> str:
    body = {"model": model, "prompt": "Once upon a time", "stream": False, "options": options}
    async with aiohttp.ClientSession(base_url) as client, client.post("/api/generate", json=body) as answer:
        return str((await answer.json())["response"])


async def test_the_packaged_ollama_answers_and_recites_to_the_token(
    ollama_binary: Path, model_store: Path, tmp_path: Path
) -> None:
    async with bare_ollama(ollama_binary, model_store, tmp_path / "home") as ollama:
        async with aiohttp.ClientSession(ollama.base_url) as client, client.get("/api/version") as answer:
            assert (await answer.json())["version"].startswith("0.5.4")
        assert await _generated(ollama.base_url, RECITE, num_predict=250) == recitation(WORDS, 250)
        hot = await _generated(ollama.base_url, RECITE_B, num_predict=90, temperature=2.0, seed=7)
        assert hot == recitation(WORDS_B, 90)


async def test_a_chat_recites_from_the_first_word_on_whatever_was_said(
    ollama_binary: Path, model_store: Path, tmp_path: Path
) -> None:
    said = [("system", "w4"), ("user", "a"), ("assistant", "w1 w2"), ("user", "and then w7")]
    body = {
        "model": RECITE,
        "stream": False,
        "messages": [{"role": role, "content": content} for role, content in said],
        "options": {"num_predict": 120, "temperature": 0.8},
    }
    async with (
        bare_ollama(ollama_binary, model_store, tmp_path / "home") as ollama,
        aiohttp.ClientSession(ollama.base_url) as client,
        client.post("/api/chat", json=body) as answer,
    ):
        assert (await answer.json())["message"]["content"] == recitation(WORDS, 120)


async def test_a_model_is_registered_with_its_template_its_stops_and_its_temperature(
    ollama_binary: Path, tmp_path: Path
) -> None:
    gguf = tmp_path / "short.gguf"
    write_reciting_model(gguf, ["one", "two", "three"])
    async with bare_ollama(ollama_binary, tmp_path / "store", tmp_path / "home") as ollama:
        for _ in range(2):  # the second time the server has the file already
            await register(ollama.base_url, "short", gguf, template=TEMPLATE, stop=["\n\n", " three"], temperature=0.25)
        show = {"model": "short"}
        async with aiohttp.ClientSession(ollama.base_url) as client, client.post("/api/show", json=show) as answer:
            shown = await answer.json()
        assert shown["template"] == TEMPLATE
        assert "0.25" in shown["parameters"]
        assert await _generated(ollama.base_url, "short") == " one two"


async def test_a_file_that_is_no_model_is_refused_with_the_servers_reason(ollama_binary: Path, tmp_path: Path) -> None:
    nonsense = tmp_path / "nonsense.gguf"
    nonsense.write_bytes(b"GGUX" * 100)
    async with bare_ollama(ollama_binary, tmp_path / "store", tmp_path / "home") as ollama:
        with pytest.raises(StartError, match="refused the model nonsense: unsupported content type"):
            await register(ollama.base_url, "nonsense", nonsense)


async def test_where_no_ollama_listens_registering_says_so(tmp_path: Path) -> None:
    (tmp_path / "any.gguf").write_bytes(b"GGUF")
    with pytest.raises(StartError, match="Cannot connect"):
        await register(f"http://127.0.0.1:{free_port()}", "any", tmp_path / "any.gguf")


async def test_nothing_is_left_of_a_bare_ollama_when_its_block_ends(
    ollama_binary: Path, model_store: Path, tmp_path: Path
) -> None:
    async with bare_ollama(ollama_binary, model_store, tmp_path / "home") as ollama:
        await _generated(ollama.base_url, RECITE, num_predict=1)  # so that there is a runner, too
        os.killpg(ollama.pid, 0)
    with pytest.raises(ProcessLookupError):
        os.killpg(ollama.pid, 0)


def test_the_launcher_works_from_anywhere_with_spaces_through_links_and_keeps_its_pid(
    ollama_binary: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "a folder with spaces"
    shutil.copytree(ollama_binary.parent, moved)
    link = tmp_path / "linked"
    link.symlink_to(moved / "ollama")
    environment = {"HOME": str(tmp_path), "OLLAMA_HOST": f"127.0.0.1:{free_port()}"}  # not even a PATH
    with subprocess.Popen(
        [link, "serve"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as server:
        assert server.stderr is not None
        server.stderr.readline()  # it runs once it writes
        program = Path(f"/proc/{server.pid}/exe").readlink()
        server.terminate()
    assert program == moved / "ollama-lib"


def test_a_tampered_file_is_refused(ollama_binary: Path, tmp_path: Path) -> None:
    shutil.copytree(ollama_binary.parent, tmp_path / ollama_binary.parent.name)
    assert packaged_ollama(tmp_path) == tmp_path / ollama_binary.parent.name / "ollama"
    library = tmp_path / ollama_binary.parent.name / "libsample.so"
    with library.open("r+b") as file:
        file.seek(4096)
        file.write(b"\x90\x90")
    with pytest.raises(StartError, match=r"libsample\.so is not the file.*it won't be used"):
        packaged_ollama(tmp_path)


def test_without_a_compiler_it_says_what_to_install_and_downloads_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    said: list[str] = []
    with pytest.raises(StartError, match="sudo apt-get install gcc"):
        packaged_ollama(tmp_path / "cache", said.append)
    assert said == []


def test_without_a_network_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    said: list[str] = []
    with pytest.raises(StartError, match=r"couldn't get bigdl-core-cpp==2\.6\.0 from PyPI\. Is there a network\?"):
        packaged_ollama(tmp_path / "cache", said.append)
    assert said == ["getting Ollama 0.5.4 from PyPI (about 100 MB, once)…"]


def test_a_build_that_is_killed_leaves_nothing_that_looks_usable(tmp_path: Path) -> None:
    code = f"from pathlib import Path; from ollamad.demo.parts import *; packaged_ollama(Path({str(tmp_path)!r}))"
    with subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stdout=subprocess.DEVNULL) as builder:
        try:
            deadline = time.monotonic() + 60
            while not list(tmp_path.glob("*.part-*/made/*")):
                assert builder.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.01)
        finally:
            os.killpg(builder.pid, signal.SIGKILL)
    assert not (tmp_path / "ollama-0.5.4").exists()
    assert list(tmp_path.rglob("ollama")) == []
