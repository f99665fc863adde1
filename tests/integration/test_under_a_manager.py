"""The daemon under what does as systemd does: it hands over sockets and keeps them, and hears how things stand."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import psutil

from tests.support.daemon import BASE_PORT, alive, until

ASK: Final = b"GET /api/version HTTP/1.1\r\nHost: localhost\r\n\r\n"
HAND_OVER: Final = """
import os, sys
for number, descriptor in enumerate(map(int, sys.argv[1:3]), 3):
    os.dup2(descriptor, 100 + number)
    os.close(descriptor)
for number in (3, 4):
    os.dup2(100 + number, number)
    os.close(100 + number)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2"}
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Becomes the program that it is told, with two sockets as its file descriptors 3 and 4."""


@dataclass
class Manager:
    """What stands in for systemd: it hears, and knows the processes that it has started."""

    proxy: socket.socket
    """The socket that clients connect to: ours, as it is systemd's."""
    control: str
    heard: list[dict[str, str]] = field(default_factory=list)
    pid: int = 0

    @property
    def port(self) -> int:
        port: int = self.proxy.getsockname()[1]
        return port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def hear(self, ear: socket.socket) -> None:
        with suppress(BlockingIOError):
            while True:
                lines = ear.recv(65536).decode().splitlines()
                self.heard.append(dict(line.split("=", 1) for line in lines))

    def told(self, key: str) -> list[str]:
        return [state[key] for state in self.heard if key in state]

    def status(self) -> str:
        return (self.told("STATUS") or [""])[-1]


@asynccontextmanager
async def managed(folder: Path, orders: Path, program: Path, config: str = "") -> AsyncIterator[Manager]:
    """A daemon whose sockets and whose ear are somebody else's, and outlive it, as under systemd."""
    (folder / "run").mkdir()
    control = str(folder / "run" / "control.sock")
    (folder / "c.toml").write_text(
        f'[status]\nlisten = "127.0.0.1:0"\n[ollama]\nbinary = "{program}"\nhome = "{folder}"\n'
        f'base_port = {BASE_PORT}\n[ollama.env]\nODD_ORDERS = "{orders}"\n[models]\npath = "{folder}/models"\n{config}'
    )
    with (
        socket.create_server(("127.0.0.1", 0)) as proxy,
        socket.socket(socket.AF_UNIX) as steering,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear,
        (folder / "log").open("wb") as log,
    ):
        steering.bind(control)
        steering.listen()
        ear.bind(str(folder / "notify"))
        ear.settimeout(0.0)
        manager = Manager(proxy, control)
        asyncio.get_running_loop().add_reader(ear, manager.hear, ear)
        handed = (proxy.fileno(), steering.fileno())
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", HAND_OVER, *map(str, handed)),
            *(sys.executable, "-m", "ollamad", "serve", "--config", str(folder / "c.toml")),
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(folder),
                "NOTIFY_SOCKET": str(folder / "notify"),
                "WATCHDOG_USEC": "2000000",
                "LISTEN_FDNAMES": "proxy:control",
            },
            pass_fds=handed,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        manager.pid = process.pid
        family = [psutil.Process(process.pid)]
        try:
            yield manager
            with suppress(psutil.NoSuchProcess):
                family += family[0].children(recursive=True)
            with suppress(ProcessLookupError):
                process.terminate()
            async with asyncio.timeout(30):
                assert await process.wait() == 0, (folder / "log").read_text()
        finally:
            asyncio.get_running_loop().remove_reader(ear)
            for left in alive(family):
                left.kill()
            await process.wait()
        assert (folder / "run" / "control.sock").is_socket(), "it is not ours to take away"


async def test_it_tells_its_manager_from_ready_to_stopping(tmp_path: Path, orders: Path, odd_ollama: Path) -> None:
    async with managed(tmp_path, orders, odd_ollama) as manager, aiohttp.ClientSession(manager.url) as session:
        async with session.get("/api/version") as answer:
            assert answer.status == 200
        await until(lambda: manager.told("READY") == ["1"])
        await until(lambda: manager.status() == "1 of 1 children ready, 0 streams")
        await until(lambda: len(manager.told("WATCHDOG")) >= 3)
        family = psutil.Process(manager.pid).children(recursive=True)
        assert len(family) == 2, "the warden, and a child"
        for process in family:
            names = process.environ().keys()
            assert names.isdisjoint({"NOTIFY_SOCKET", "WATCHDOG_USEC", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"})
            assert not any(found.laddr.port == manager.port for found in listening(process))
    assert manager.told("STOPPING") == ["1"]
    assert int(manager.told("EXTEND_TIMEOUT_USEC")[-1]) > 0


def listening(process: psutil.Process) -> list[Any]:
    return [found for found in process.net_connections("tcp") if found.status == psutil.CONN_LISTEN]


async def test_a_reload_by_signal_or_by_command_is_told_with_its_time(
    tmp_path: Path, orders: Path, odd_ollama: Path
) -> None:
    async with managed(tmp_path, orders, odd_ollama) as manager, aiohttp.ClientSession(manager.url) as session:
        async with session.get("/api/version") as answer:
            assert answer.status == 200
        await until(lambda: manager.told("READY") == ["1"])
        os.kill(manager.pid, signal.SIGHUP)
        await until(lambda: manager.told("READY") == ["1"] * 2)
        status, out, _ = await reloaded(manager)
        assert (status, len(manager.told("READY"))) == (0, 3)
        assert "goes on as reload-" in out
        (tmp_path / "c.toml").write_text("[log]\nlevel = 1\n")
        status, _, err = await reloaded(manager)
        assert status == 1
        assert "log.level = 1" in err
        await until(lambda: manager.told("READY") == ["1"] * 4)
        await until(lambda: "the new configuration was refused" in manager.status())
        assert len(manager.told("RELOADING")) == 3
        began_usec = [int(usec) for usec in manager.told("MONOTONIC_USEC")]
        assert len(began_usec) == 3
        assert 0 < began_usec[0] < began_usec[1] < began_usec[2]


async def reloaded(manager: Manager) -> tuple[int | None, str, str]:
    """`ollamactl reload --no-wait`: its exit status, and what it says."""
    ctl = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ollamad.cli.ctl.main", "--socket", manager.control, "reload", "--no-wait"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await ctl.communicate()
    return ctl.returncode, out.decode(), err.decode()


@asynccontextmanager
async def asked(port: int) -> AsyncIterator[asyncio.StreamReader]:
    """A client that has asked for something; what it reads is up to the test."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(ASK)
    yield reader
    writer.close()
    await writer.wait_closed()


async def test_while_streams_finish_the_door_is_shut_and_who_knocks_waits_for_a_successor(
    tmp_path: Path, orders: Path, odd_ollama: Path
) -> None:
    (orders / "all.gate").touch()
    config = "[proxy]\nshutdown_grace_s = 600.0\n"
    async with (
        managed(tmp_path, orders, odd_ollama, config) as manager,
        aiohttp.ClientSession(manager.url) as session,
        session.post("/api/generate", json={"model": "m"}) as answer,
        asked(manager.port) as idle,
    ):
        assert b"one" in await answer.content.readany()
        assert (await idle.readuntil(b"}")).startswith(b"HTTP/1.1 200")
        await until(lambda: manager.told("READY") == ["1"])
        os.kill(manager.pid, signal.SIGTERM)
        await until(lambda: manager.status().startswith("stopping: 1 of 1 children ready, 1 stream"))
        assert await idle.read() == b"", "who has had an answer is to connect anew"
        async with asked(manager.port):
            asks_for_time = len(manager.told("EXTEND_TIMEOUT_USEC"))
            await until(lambda: len(manager.told("EXTEND_TIMEOUT_USEC")) >= asks_for_time + 2)
            (orders / "all.gate").unlink()
            assert b"error" not in await answer.content.read(), "it came to its end"
            await until(lambda: not psutil.pid_exists(manager.pid))
            successor, _ = manager.proxy.accept()
            with successor:
                assert successor.recv(4096) == ASK, "nobody else has answered"


async def test_ready_is_said_without_a_child_after_the_wait(tmp_path: Path, orders: Path, odd_ollama: Path) -> None:
    (orders / "all.idle").touch()
    async with managed(tmp_path, orders, odd_ollama, "[service]\nready_wait_s = 0.2\n") as manager:
        await until(lambda: manager.told("READY") == ["1"])
        assert manager.status().startswith("0 of 1 children ready")
