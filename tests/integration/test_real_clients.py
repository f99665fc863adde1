"""The real `ollama` command line and the npm client through ollamad over two real Ollamas; and what both then have."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.support.behind import load_on_each, on_each
from tests.support.daemon import Daemon, Daemons, until
from tests.support.real_ollama import RECITE, RECITE_B
from tests.support.reciting import TEMPLATE, WORDS, recitation, write_reciting_model
from tests.support.registry import registry

SHORT: Final = "short:latest"
HERE: Final = {RECITE, RECITE_B}
"""What the store has at first."""
MODELFILE: Final = "FROM recite\nPARAMETER num_predict 5\n"
"""A model that ends by itself, as the command line can't say `num_predict`."""
_CURSOR: Final = re.compile(r"\x1b\[\??\d*[A-Za-z]")


@dataclass(frozen=True, slots=True)
class Said:
    """How a command ended."""

    status: int
    out: str
    err: str
    """Without what moves the cursor."""

    @property
    def names(self) -> set[str]:
        """The first column of a table."""
        return {line.split()[0] for line in self.out.splitlines()[1:]}


class CommandLine:
    """`ollama`, pointed at a daemon."""

    def __init__(self, program: Path, daemon: Daemon, home: Path) -> None:
        self._program = program
        self.daemon = daemon
        self._env = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "OLLAMA_HOST": daemon.base_url.removeprefix("http://"),
        }

    async def __call__(self, *words: str | Path) -> Said:
        """Type one command, and wait for its end."""
        process = await asyncio.create_subprocess_exec(
            self._program,
            *words,
            env=self._env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        assert process.returncode is not None
        return Said(process.returncode, out.decode(), _CURSOR.sub("", err.decode()))

    async def has(self, *words: str | Path) -> str:
        """Type one command that must succeed, and give its output."""
        said = await self(*words)
        assert said.status == 0, said
        return said.out


@pytest.fixture(params=["shared", "per-child"])
async def cli(
    request: pytest.FixtureRequest, daemons: Daemons, ollama_binary: Path, model_store: Path, tmp_path: Path
) -> AsyncIterator[CommandLine]:
    await asyncio.to_thread(shutil.copytree, model_store, tmp_path / "store")
    home = tmp_path / "home"
    home.mkdir()
    models = {"models": {"store": request.param}}
    async with daemons.run(ollama_binary, models, store=tmp_path / "store") as daemon:
        await daemon.until_ready(2)

        async def both_have_them() -> bool:
            return await on_each(daemon, "/api/tags") == [HERE, HERE]

        await until(both_have_them, daemon.explain)
        yield CommandLine(ollama_binary, daemon, home)


async def test_it_lists_and_shows_what_both_have(cli: CommandLine) -> None:
    assert (await cli("list")).names == HERE
    shown = (await cli.has("show", "recite")).split()
    assert shown[:3] == ["Model", "architecture", "llama"]
    assert "8192" in shown
    assert f'TEMPLATE "{TEMPLATE}"' in await cli.has("show", "--modelfile", "recite")


async def test_what_there_is_not_ends_each_command_with_a_1_and_the_reason(cli: CommandLine) -> None:
    for words in (("show", "nobody"), ("rm", "nobody"), ("cp", "nobody", "x"), ("stop", "nobody")):
        said = await cli(*words)
        assert (said.status, said.out) == (1, ""), words
        assert re.search(r'Error: .*(model .nobody. not found|find model "nobody" to stop)', said.err), said


async def test_a_copy_is_on_both_and_once_removed_on_neither(cli: CommandLine) -> None:
    assert await cli.has("cp", "recite", "twin") == "copied 'recite' to 'twin'\n"
    assert await on_each(cli.daemon, "/api/tags") == [{*HERE, "twin:latest"}] * 2
    assert (await cli("list")).names == {*HERE, "twin:latest"}
    assert await cli.has("rm", "twin", "recite-b") == "deleted 'twin'\ndeleted 'recite-b'\n"
    assert await on_each(cli.daemon, "/api/tags") == [{RECITE}] * 2


async def test_a_model_is_created_run_listed_and_stopped_everywhere(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "Modelfile").write_text(MODELFILE)
    made = await cli("create", "short", "-f", tmp_path / "Modelfile")
    assert (made.status, made.err.split()[-1]) == (0, "success")
    assert await on_each(cli.daemon, "/api/tags") == [{*HERE, SHORT}] * 2
    assert (await cli.has("run", "short", "go")).rstrip("\n") == recitation(WORDS, 5)
    assert (await cli("ps")).names == {SHORT}
    await load_on_each(cli.daemon, SHORT)
    assert await on_each(cli.daemon, "/api/ps") == [{SHORT}] * 2
    assert await cli.has("stop", "short") == ""

    async def unloaded() -> bool:
        return await on_each(cli.daemon, "/api/ps") == [set(), set()]

    await until(unloaded, cli.daemon.explain)
    assert (await cli("ps")).names == set()


async def test_a_file_of_weights_is_uploaded_and_runs(cli: CommandLine, tmp_path: Path) -> None:
    words = ("v0", "v1", "v2")
    await asyncio.to_thread(write_reciting_model, tmp_path / "v.gguf", words)
    text = f'FROM {tmp_path / "v.gguf"}\nTEMPLATE """{TEMPLATE}"""\nPARAMETER num_predict 4\n'
    (tmp_path / "Modelfile").write_text(text)
    await cli.has("create", "uploaded", "-f", tmp_path / "Modelfile")
    assert await on_each(cli.daemon, "/api/tags") == [{*HERE, "uploaded:latest"}] * 2
    assert (await cli.has("run", "uploaded", "go")).rstrip("\n") == recitation(words, 4)


async def test_a_model_is_pulled_to_both_and_what_can_t_be_is_told(cli: CommandLine, tmp_path: Path) -> None:
    async with registry(tmp_path / "registry") as source:
        await asyncio.to_thread(write_reciting_model, tmp_path / "pulled.gguf", WORDS)
        source.add("pulled", ("model", tmp_path / "pulled.gguf"), ("template", TEMPLATE.encode()))
        said = await cli("pull", "--insecure", f"http://{source.name('pulled')}")
        assert (said.status, said.err.split()[-1]) == (0, "success"), said
        assert "verifying sha256 digest" in said.err
        assert await on_each(cli.daemon, "/api/tags") == [{*HERE, f"{source.name('pulled')}:latest"}] * 2
        refused = await cli("pull", "--insecure", f"http://{source.name('nobody')}")
        assert (refused.status, refused.out) == (1, "")
        assert "Error: pull model manifest: file does not exist" in refused.err


async def test_it_finds_the_server_s_version(cli: CommandLine) -> None:
    assert re.fullmatch(r"ollama version is 0\.5\.4\S*\n", await cli.has("--version"))


async def test_the_npm_client_lists_streams_shows_and_aborts(
    daemons: Daemons, ollama_binary: Path, model_store: Path, node_client: Path
) -> None:
    async with daemons.run(ollama_binary, store=model_store) as daemon:
        await daemon.until_ready(2)
        script = Path(__file__).parents[1] / "support" / "npm_client.mjs"
        process = await asyncio.create_subprocess_exec(
            *("node", script, node_client, daemon.base_url),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        told = json.loads(out)
        assert set(told["list"]) == HERE
        assert told["generate"] == recitation(WORDS, 7)
        assert "".join(part["content"] for part in told["chat"]) == recitation(WORDS, 9)
        assert [part["done"] for part in told["chat"]] == [False] * 9 + [True]
        assert told["show"] == "llama"
        assert set(told["ps"]) == {RECITE}
        assert told["nobody"] == [404, "model 'nobody' not found"]
        # What had come by then is still handed out: whole, and not for long.
        assert "".join(told["before"]) == recitation(WORDS, len(told["before"]))
        assert told["abort"] == "AbortError"

        async def its_slot_is_free() -> bool:
            return [child["in_flight"] for child in (await daemon.status())["children"]] == [0, 0]

        await until(its_slot_is_free, daemon.explain)
