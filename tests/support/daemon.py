"""`ollamad serve` as a process of its own, as an operator runs it, and what a test asks of it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
import tomllib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import aiohttp
import psutil
import pytest
import tomli_w

from tests.support.own_number import own_number

PATIENCE_S: Final = 30.0
LOOK_S: Final = 0.02
BASE_PORT: Final = 12_000 + own_number() % 400 * 50
"""Other test runs on this machine have others, below what the kernel hands out."""


class Daemon:
    """One running `ollamad serve`."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path) -> None:
        self.process = process
        self.folder = folder
        self.base_url = ""
        self.status_url = ""

    @property
    def control(self) -> Path:
        """Its control socket."""
        return self.folder / "control.sock"

    @property
    def home(self) -> Path:
        """The children's HOME, which no other process has."""
        return self.folder / "home"

    def configure(self, table: str, **values: object) -> None:
        """Write these values into its configuration, which it has not read again by that."""
        file = self.folder / "config.toml"
        config = tomllib.loads(file.read_text())
        file.write_text(tomli_w.dumps({**config, table: {**config[table], **values}}))

    def events(self) -> list[dict[str, Any]]:
        """All log events so far; a half-written last line is left out."""
        lines = (self.folder / "log").read_text(errors="replace").split("\n")[:-1]
        return [json.loads(line) for line in lines if line.startswith("{")]

    def said(self, event: str) -> list[dict[str, Any]]:
        """The log events of this name."""
        return [entry for entry in self.events() if entry["event"] == event]

    def operator(self) -> aiohttp.ClientSession:
        """Whoever asks over the control socket; by paths alone."""
        return aiohttp.ClientSession("http://ollamad", connector=aiohttp.UnixConnector(str(self.control)))

    async def page(self) -> dict[str, Any]:
        """`GET /status`."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.status_url}/status") as answer:
            found: dict[str, Any] = await answer.json()
            return found

    async def status(self) -> dict[str, Any]:
        """What `GET /status` tells. Over the control socket, as that page may be as old as fifty times what it takes to
        draw: what has just happened would not be in it, and now and then a test fail."""
        async with self.operator() as session, session.get("/v1/status") as answer:
            found: dict[str, Any] = await answer.json()
            return found

    async def child(self, name: str) -> dict[str, Any]:
        """One child's entry of `/status`."""
        return next(child for child in (await self.status())["children"] if child["id"] == name)

    async def until_ready(self, children: int) -> None:
        """Until so many children are ready."""

        async def enough() -> bool:
            return len([child for child in (await self.status())["children"] if child["routable"]]) >= children

        await until(enough, self.explain)

    def explain(self) -> str:
        """The end of the log, for a test that failed."""
        return "\n".join((self.folder / "log").read_text(errors="replace").splitlines()[-30:])

    async def stop(self) -> None:
        """SIGTERM, as systemd does; the daemon must leave by itself and cleanly."""
        if self.process.returncode is None:
            self.process.terminate()
        async with asyncio.timeout(PATIENCE_S):
            status = await self.process.wait()
        assert status == 0, f"exit status {status}\n{self.explain()}"

    def all_processes(self) -> list[psutil.Process]:
        """Every process that belongs to it now: descendants, and whoever carries its children's HOME."""
        found = {process.pid: process for process in _with_variable("HOME", str(self.home))}
        with suppress(psutil.NoSuchProcess):
            me = psutil.Process(self.process.pid)
            found |= {process.pid: process for process in [me, *me.children(recursive=True)]}
        return list(found.values())


def runners_of(pid: int) -> list[psutil.Process]:
    """The runners that an Ollama server has started."""
    return psutil.Process(pid).children(recursive=True)


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that still run; zombies do not."""

    def runs(process: psutil.Process) -> bool:
        try:
            return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    return [process for process in processes if runs(process)]


def _with_variable(name: str, value: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(name) == value:
                found.append(process)
    return found


async def until(condition: Callable[[], Any], explain: Callable[[], str] = lambda: "") -> None:
    """Look until a condition (a function, plain or async) holds; fail after a generous while."""
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        held = condition()
        if asyncio.iscoroutine(held):
            held = await held
        if held:
            return
        assert time.monotonic() < deadline_s, f"it did not come to be\n{explain()}"
        await asyncio.sleep(LOOK_S)


class Daemons:
    """Starts daemons for a test, each in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0

    @asynccontextmanager
    async def run(
        self,
        program: Path | str,
        tables: Mapping[str, dict[str, Any]] | None = None,
        *,
        store: Path | None = None,
        env: Mapping[str, str] | None = None,
        through: Sequence[str | Path] = (),
    ) -> AsyncIterator[Daemon]:
        """Run one until the block ends; then it must stop cleanly, unless the test has killed it.

        `tables` are laid over a configuration that fits tests: ports of the kernel's choice, two children on the CPU.
        `through` is a command that becomes it, such as one that enters a network namespace.
        """
        self._count += 1
        folder = self._folder / f"daemon{self._count}"
        (folder / "home").mkdir(parents=True)
        config = _configuration(folder, program, store, tables or {})
        (folder / "config.toml").write_text(tomli_w.dumps(config))
        with (folder / "log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *(*through, sys.executable, "-m", "ollamad", "serve", "--config", str(folder / "config.toml")),
                env={"PATH": os.environ["PATH"], "HOME": str(folder), **(env or {})},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        daemon = Daemon(process, folder)
        try:
            await until(lambda: daemon.said("ollamad starts") or process.returncode is not None, daemon.explain)
            assert process.returncode is None, daemon.explain()
            start = daemon.said("ollamad starts")[0]
            daemon.base_url, daemon.status_url = f"http://{start['proxy']}", f"http://{start['status']}"
            yield daemon
            if process.returncode is None:
                await daemon.stop()
        finally:
            for left in alive(daemon.all_processes()):
                with suppress(psutil.NoSuchProcess):
                    left.kill()
            await process.wait()


def _configuration(
    folder: Path, program: Path | str, store: Path | None, tables: Mapping[str, dict[str, Any]]
) -> dict[str, Any]:
    base: dict[str, dict[str, Any]] = {
        "proxy": {"listen": "127.0.0.1:0"},
        "status": {"listen": "127.0.0.1:0"},
        "control": {"socket": str(folder / "control.sock")},
        "ollama": {"binary": str(program), "home": str(folder / "home"), "base_port": BASE_PORT},
        "gpus": {"cpu_children": 2},
        "models": {"path": str(store or folder / "models")},
        "log": {"level": "debug", "format": "json"},
    }
    return {name: {**base.get(name, {}), **tables.get(name, {})} for name in base.keys() | tables.keys()}


def send_signal(pid: int, number: signal.Signals) -> None:
    """Signal one process."""
    os.kill(pid, number)


@pytest.fixture
def daemons(tmp_path: Path) -> Daemons:
    """Daemons in this test's folder."""
    return Daemons(tmp_path)


def odd_program(folder: Path) -> Path:
    """A program that stands in for ollama and misbehaves as `tests/support/odd_ollama.py` says."""
    script = Path(__file__).with_name("odd_ollama.py")
    program = folder / "odd-ollama"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" "$@"\n')
    program.chmod(0o755)
    return program


@pytest.fixture
def odd_ollama(tmp_path: Path) -> Path:
    """Such a program in this test's folder."""
    return odd_program(tmp_path)
