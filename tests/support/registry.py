"""A small registry on loopback, as much of one as Ollama's pulls need, with a gate to hold a download at.

Ollama (0.5.4, server/download.go) asks for each blob's size, then for its address, which must be on another host than
the registry, and then for its parts by range. The other host here is the same server by its other name.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from aiohttp import web

CHUNK_BYTES: Final = 1 << 20
_RANGE: Final = re.compile(r"bytes=(\d+)-(\d+)")


@dataclass
class Registry:
    """Serves the models it is given as `127.0.0.1:PORT/library/NAME`."""

    folder: Path
    port: int = 0
    asked: Counter[str] = field(default_factory=Counter)
    """How many bytes of each blob were sent."""
    in_turn: bool = False
    """Send the parts of blobs one after the other: Ollama keeps whole parts alone when it is killed."""
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _held_after: int | None = None
    _manifests: dict[str, bytes] = field(default_factory=dict)
    _open: asyncio.Event = field(default_factory=asyncio.Event)

    def name(self, model: str) -> str:
        """What a client calls a model of this registry."""
        return f"127.0.0.1:{self.port}/library/{model}"

    @property
    def sent_bytes(self) -> int:
        """How much was sent of all blobs together."""
        return sum(self.asked.values())

    def hold_after(self, sent_bytes: int) -> None:
        """Send so many bytes of blobs in all, and no more until `release`."""
        self._held_after = sent_bytes
        self._open.set()  # who waits for more looks again
        self._open = asyncio.Event()

    def release(self) -> None:
        """Hold nothing back any more."""
        self._held_after = None
        self._open.set()

    def add(self, model: str, *layers: tuple[str, Path | bytes]) -> None:
        """A model of these layers, each a media type's last word (`model`, `template`) and its content."""
        config = {"model_format": "gguf", "model_family": "llama", "model_type": "1M", "file_type": "F32", "rootfs": {}}
        described = [self._blob(f"application/vnd.ollama.image.{kind}", content) for kind, content in layers]
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": self._blob("application/vnd.docker.container.image.v1+json", json.dumps(config).encode()),
            "layers": described,
        }
        self._manifests[model] = json.dumps(manifest).encode()

    def _blob(self, media_type: str, content: Path | bytes) -> dict[str, Any]:
        found = hashlib.sha256()
        if isinstance(content, bytes):
            digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
            (self.folder / digest).write_bytes(content)
            return {"mediaType": media_type, "digest": digest, "size": len(content)}
        with content.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                found.update(chunk)
        digest = f"sha256:{found.hexdigest()}"
        if not (self.folder / digest).exists():
            (self.folder / digest).hardlink_to(content)
        return {"mediaType": media_type, "digest": digest, "size": content.stat().st_size}

    async def _manifest(self, request: web.Request) -> web.Response:
        found = self._manifests.get(request.match_info["model"])
        if found is None:
            return web.json_response({"errors": [{"code": "MANIFEST_UNKNOWN"}]}, status=404)
        return web.Response(body=found)

    async def _address(self, request: web.Request) -> web.Response:
        path = self.folder / request.match_info["digest"]
        if not path.exists():
            return web.Response(status=404)
        if request.method == "HEAD":
            return web.Response(headers={"Content-Length": str(path.stat().st_size)})
        return web.Response(status=307, headers={"Location": f"http://localhost:{self.port}/data/{path.name}"})

    async def _data(self, request: web.Request) -> web.StreamResponse:
        if not self.in_turn:
            return await self._part(request)
        async with self._turn:
            return await self._part(request)

    async def _part(self, request: web.Request) -> web.StreamResponse:
        path = self.folder / request.match_info["digest"]
        wanted = _RANGE.fullmatch(request.headers.get("Range", ""))
        first, last = (int(wanted[1]), int(wanted[2])) if wanted else (0, path.stat().st_size - 1)
        response = web.StreamResponse(status=206 if wanted else 200, headers={"Content-Length": str(last - first + 1)})
        await response.prepare(request)
        with path.open("rb") as file:
            file.seek(first)
            left = last - first + 1
            while left:
                chunk = file.read(min(CHUNK_BYTES, left))
                await self._may_send(len(chunk))
                try:
                    await response.write(chunk)
                except ConnectionError:
                    return response  # who asked has gone
                self.asked[path.name] += len(chunk)
                left -= len(chunk)
        await response.write_eof()
        return response

    async def _may_send(self, number: int) -> None:
        while self._held_after is not None and self.sent_bytes + number > self._held_after:
            await self._open.wait()

    def application(self) -> web.Application:
        """The routes."""
        application = web.Application()
        application.router.add_get("/v2/library/{model}/manifests/latest", self._manifest)
        application.router.add_get("/v2/library/{model}/blobs/{digest}", self._address, allow_head=True)
        application.router.add_get("/data/{digest}", self._data)
        return application


@asynccontextmanager
async def registry(folder: Path) -> AsyncIterator[Registry]:
    """A registry for one test, in the test's own loop."""
    await asyncio.to_thread(folder.mkdir)
    found = Registry(folder)
    runner = web.AppRunner(found.application(), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        found.port = runner.addresses[0][1]
        yield found
    finally:
        found.release()
        await runner.cleanup()


def big_file(path: Path, size_bytes: int) -> Path:
    """A file of so many bytes that no file system can leave out."""
    block = hashlib.shake_256(path.name.encode()).digest(CHUNK_BYTES)
    with path.open("wb") as file:
        for number in range(size_bytes // CHUNK_BYTES):
            file.write(number.to_bytes(8, "big") + block[8:])
    return path
