"""A model registry on loopback: the part of the distribution protocol that Ollama speaks, over a store's own files."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Final

from aiohttp import web

from ollamad.sim.names import HOST, Name
from ollamad.sim.store import MANIFEST_TYPE, Store, WrongDigest, is_digest

READ_BYTES: Final = 1 << 20


@asynccontextmanager
async def registry(store: Store, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """Serve the store's models (those of the default registry) until the block is left; gives `host:port`.

    To Ollama they are `http://host:port/library/NAME`, with `insecure`.
    """
    runner = web.AppRunner(_application(_Registry(store)), shutdown_timeout=0.0, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield "{}:{}".format(*runner.addresses[0][:2])
    finally:
        await runner.cleanup()


def _application(site: _Registry) -> web.Application:
    app = web.Application(client_max_size=1 << 62)
    app.router.add_get("/v2/{namespace}/{model}/manifests/{tag}", site.manifest)
    app.router.add_put("/v2/{namespace}/{model}/manifests/{tag}", site.put_manifest)
    app.router.add_get("/v2/{namespace}/{model}/blobs/{digest}", site.blob)
    app.router.add_post("/v2/{namespace}/{model}/blobs/uploads/", site.begin)
    app.router.add_patch("/v2/{namespace}/{model}/blobs/uploads/{upload}", site.append)
    app.router.add_put("/v2/{namespace}/{model}/blobs/uploads/{upload}", site.finish)
    return app


class _Registry:
    """Handlers over one store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def manifest(self, request: web.Request) -> web.Response:
        """A model's manifest."""
        try:
            text = self._store.manifest_bytes(self._store.existing(_name(request)))
        except FileNotFoundError:
            raise web.HTTPNotFound from None
        return web.Response(body=text, content_type=MANIFEST_TYPE)

    async def put_manifest(self, request: web.Request) -> web.Response:
        """A pushed model: its blobs have to be there."""
        text = await request.read()
        value = json.loads(text)
        if not all(self._store.blob(layer["digest"]).exists() for layer in (value["config"], *value["layers"])):
            raise web.HTTPBadRequest(text="a blob is missing")
        self._store.write_manifest(_name(request), text)
        return web.Response(status=HTTPStatus.CREATED)

    async def blob(self, request: web.Request) -> web.StreamResponse:
        """A blob or, by `Range`, a part of it."""
        path = self._store.blob(request.match_info["digest"])
        if not is_digest(request.match_info["digest"]) or not path.exists():
            raise web.HTTPNotFound
        place = {"Location": str(request.url)}  # Ollama 0.5.4 asks where the blob is, even of who gives it itself
        return web.FileResponse(path, chunk_size=READ_BYTES, headers=place)

    async def begin(self, request: web.Request) -> web.Response:
        """A place for an upload."""
        return self._accepted(request, secrets.token_hex(8))

    async def append(self, request: web.Request) -> web.Response:
        """A piece of an upload, at the place that `Content-Range` says."""
        upload = request.match_info["upload"]
        start = int(request.headers.get("Content-Range", "0-").partition("-")[0])
        path = self._store.blobs / f"upload-{upload}"
        with path.open("r+b" if path.exists() else "w+b") as out:
            out.seek(start)
            async for part in request.content.iter_any():
                out.write(part)
        return self._accepted(request, upload)

    async def finish(self, request: web.Request) -> web.Response:
        """The end of an upload: it is what it says it is, or it is nothing."""
        digest = request.query["digest"]
        path = self._store.blobs / f"upload-{request.match_info['upload']}"
        if path.exists():
            with path.open("rb") as file:
                found = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
            if found != digest:
                path.unlink()
                raise web.HTTPBadRequest(text="digest mismatch")
            path.replace(self._store.blob(digest))
        else:
            try:
                await self._store.receive(digest, request.content.iter_any())
            except WrongDigest as wrong:
                raise web.HTTPBadRequest(text=str(wrong)) from None
        return web.Response(status=HTTPStatus.CREATED)

    def _accepted(self, request: web.Request, upload: str) -> web.Response:
        namespace, model = request.match_info["namespace"], request.match_info["model"]
        place = request.url.origin() / f"v2/{namespace}/{model}/blobs/uploads/{upload}"
        return web.Response(status=HTTPStatus.ACCEPTED, headers={"Location": str(place)})


def _name(request: web.Request) -> Name:
    parts = request.match_info
    return Name(HOST, parts["namespace"], parts["model"], parts["tag"])
