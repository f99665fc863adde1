"""Who is measured: nginx, HAProxy, a plain aiohttp relay and ollamad, each on a port of its own before one backend."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil
import tomli_w

from ollamad.demo.parts import default_cache
from tests.support.debian import debian_program, library_path
from tests.support.real_ollama import free_port

ROOT: Final = Path(__file__).parents[2]
HAPROXY_LIBRARIES: Final = ("liblua5.3-0", "libopentracing-c-wrapper0", "libopentracing1")
NGINX: Final = """\
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 18000; }}
http {{
    access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    upstream child {{ server 127.0.0.1:{upstream}; keepalive 256; }}
    server {{
        listen 127.0.0.1:{port} backlog=8192;
        location / {{
            proxy_pass http://child; proxy_http_version 1.1; proxy_set_header Connection "";
            proxy_buffering off; proxy_read_timeout 1h; client_max_body_size 0; keepalive_requests 1000000;
        }}
    }}
}}
"""
HAPROXY: Final = """\
global
    maxconn 9000
    nbthread 1
defaults
    mode http
    timeout connect 5s
    timeout client 1h
    timeout server 1h
    http-reuse always
frontend front
    bind 127.0.0.1:{port} backlog 8192
    default_backend child
backend child
    server child 127.0.0.1:{upstream}
"""


@dataclass(frozen=True, slots=True)
class Party:
    """One that is measured, running."""

    name: str
    port: int
    pids: tuple[int, ...]
    """The processes whose time counts."""
    status_port: int | None = None

    def cpu_s(self) -> float:
        """Seconds on a CPU so far, to the nanosecond, as the scheduler counts them."""
        total = 0
        for pid in self.pids:
            for task in Path(f"/proc/{pid}/task").iterdir():
                with suppress(FileNotFoundError):
                    total += int((task / "schedstat").read_text().split()[0])
        return total / 1e9

    def rss_bytes(self) -> int:
        """Memory of these processes."""
        return sum(psutil.Process(pid).memory_info().rss for pid in self.pids)

    def fds(self) -> int:
        """Open files of these processes."""
        return sum(psutil.Process(pid).num_fds() for pid in self.pids)


@asynccontextmanager
async def backend(folder: Path) -> AsyncIterator[Party]:
    """The backend itself, without anybody in between."""
    port = free_port()
    command = (sys.executable, "-m", "bench.relay.backend")
    async with _run(command, folder / "backend.log", port, {"OLLAMA_HOST": f"127.0.0.1:{port}"}) as process:
        yield Party("direct", port, (process.pid,))


@asynccontextmanager
async def nginx(folder: Path, upstream: int) -> AsyncIterator[Party]:
    """A real nginx with one worker."""
    program = await asyncio.to_thread(debian_program, "nginx", "usr/sbin/nginx", default_cache())
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, port=port, upstream=upstream))
    command = (program, "-p", folder, "-c", config, "-e", folder / "error.log")
    async with _run(command, folder / "nginx.log", port) as process:
        yield Party("nginx", port, tuple(child.pid for child in psutil.Process(process.pid).children()))


@asynccontextmanager
async def haproxy(folder: Path, upstream: int) -> AsyncIterator[Party]:
    """A real HAProxy with one thread."""
    cache = default_cache()
    program = await asyncio.to_thread(debian_program, "haproxy", "usr/sbin/haproxy", cache, HAPROXY_LIBRARIES)
    port = free_port()
    config = folder / "haproxy.cfg"
    config.write_text(HAPROXY.format(port=port, upstream=upstream))
    env = {"LD_LIBRARY_PATH": library_path(cache, HAPROXY_LIBRARIES)}
    async with _run((program, "-db", "-f", config), folder / "haproxy.log", port, env) as process:
        yield Party("haproxy", port, (process.pid,))


@asynccontextmanager
async def plain(folder: Path, upstream: int) -> AsyncIterator[Party]:
    """The plain aiohttp relay."""
    port = free_port()
    command = (sys.executable, "-m", "bench.relay.plain", str(port), f"http://127.0.0.1:{upstream}")
    async with _run(command, folder / "plain.log", port) as process:
        yield Party("plain aiohttp", port, (process.pid,))


@asynccontextmanager
async def bare(folder: Path, upstream: int) -> AsyncIterator[Party]:
    """Bytes from socket to socket, on the same event loop: the floor."""
    port = free_port()
    command = (sys.executable, "-m", "bench.relay.bare", str(port), str(upstream))
    async with _run(command, folder / "bare.log", port) as process:
        yield Party("bare uvloop", port, (process.pid,))


@asynccontextmanager
async def ollamad(
    folder: Path, children: int = 1, tables: Mapping[str, dict[str, Any]] | None = None, program: Path | None = None
) -> AsyncIterator[Party]:
    """Ollamad as users run it, its access log on, with backends for children; not one process counts but its own."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    script = program or folder / "backend"
    if program is None:
        script.write_text(f'#!/bin/sh\ncd "{ROOT}" && exec "{sys.executable}" -m bench.relay.backend\n')
        script.chmod(0o755)
    port, status_port = free_port(), free_port()
    base: dict[str, dict[str, Any]] = {
        "proxy": {"listen": f"127.0.0.1:{port}"},
        "status": {"listen": f"127.0.0.1:{status_port}"},
        "control": {"socket": str(folder / "control.sock")},
        "ollama": {"binary": str(script), "home": str(home), "num_parallel": 64},
        "gpus": {"cpu_children": children},
        "models": {"path": str(folder / "models")},
        "log": {"level": "info", "format": "json"},
    }
    merged = {
        name: {**base.get(name, {}), **(tables or {}).get(name, {})} for name in base.keys() | (tables or {}).keys()
    }
    config = folder / "ollamad.toml"
    config.write_text(tomli_w.dumps(merged))
    command = (sys.executable, "-m", "ollamad", "serve", "--config", config)
    async with _run(command, folder / "ollamad.log", port) as process:
        await _ready(status_port, children)
        yield Party("ollamad", port, (process.pid,), status_port)


async def get(port: int, path: str) -> bytes:
    """The body of a small answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n".encode())
        return (await reader.read()).partition(b"\r\n\r\n")[2]
    finally:
        writer.close()


async def _ready(status_port: int, children: int) -> None:
    async with asyncio.timeout(60):
        while True:
            status = json.loads(await get(status_port, "/status"))
            if sum(child["routable"] for child in status["children"]) >= children:
                return
            await asyncio.sleep(0.05)


@asynccontextmanager
async def _run(
    command: tuple[Any, ...], log: Path, port: int, env: Mapping[str, str] | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a server until the block ends; it listens when the block begins."""
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=ROOT,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **(env or {})},
        )
    try:
        await _listens(process, port, log)
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            async with asyncio.timeout(20):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


async def _listens(process: asyncio.subprocess.Process, port: int, log: Path) -> None:
    async with asyncio.timeout(30):
        while True:
            if process.returncode is not None:
                raise RuntimeError(f"it ended at once:\n{log.read_text(errors='replace')[-2000:]}")  # noqa: ASYNC240
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(0.05)
