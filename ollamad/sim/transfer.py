"""`pull` from and `push` to a registry, by the part of its protocol that Ollama speaks."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from http import HTTPStatus
from typing import Any, Final

import aiohttp
from aiohttp import web

from ollamad.sim.bind import BOOL, STRING, Shape, bind
from ollamad.sim.golang import quoted
from ollamad.sim.names import Name, parse
from ollamad.sim.replies import Failure, last_of, lines
from ollamad.sim.site import Site
from ollamad.sim.store import MANIFEST_TYPE, Layer, WrongDigest

_NAMED: Final = {"model": STRING, "name": STRING, "insecure": BOOL, "stream": BOOL, "username": STRING}
PULL: Final = Shape("PullRequest", "api", _NAMED)
PUSH: Final = Shape("PushRequest", "api", _NAMED)
SHORT: Final = 12
"""How many digits of a digest are shown."""
FAULTS: Final = (aiohttp.ClientError, OSError, TimeoutError)

_Progress = AsyncGenerator[dict[str, Any], None]


class Transfer:
    """Handlers for one server."""

    def __init__(self, site: Site) -> None:
        self._site = site

    async def pull(self, request: web.Request) -> web.StreamResponse:
        """`POST /api/pull`."""
        asked = bind(await request.read(), PULL)
        name = parse(asked.get("model") or asked.get("name") or "")
        if not name.valid:
            raise Failure(HTTPStatus.BAD_REQUEST, "invalid model name")
        progress = self._pulled(self._site.store.existing(name), _registry(name, insecure=asked.get("insecure", False)))
        return await (lines(request, progress) if asked.get("stream", True) else last_of(progress))

    async def push(self, request: web.Request) -> web.StreamResponse:
        """`POST /api/push`."""
        asked = bind(await request.read(), PUSH)
        text = asked.get("model") or asked.get("name") or ""
        if not text:
            raise Failure(HTTPStatus.BAD_REQUEST, "model is required")
        name = parse(text)
        progress = self._pushed(name, _registry(name, insecure=asked.get("insecure", False)))
        return await (lines(request, progress) if asked.get("stream", True) else last_of(progress))

    async def _pulled(self, name: Name, base_url: str) -> _Progress:
        yield {"status": "pulling manifest"}
        text = await self._manifest(f"{base_url}/manifests/{name.tag}")
        value = json.loads(text)
        layers = [*value.get("layers", ()), value["config"]]
        for layer in layers:
            async for record in self._layer(base_url, layer["digest"], layer["size"]):
                yield record
        yield {"status": "verifying sha256 digest"}
        yield {"status": "writing manifest"}
        self._site.store.write_manifest(name, text)
        if not self._site.settings.noprune:
            yield {"status": "removing any unused layers"}
            self._site.store.prune()
        yield {"status": "success"}

    async def _manifest(self, url: str) -> bytes:
        try:
            async with self._site.client.get(url, headers={"Accept": MANIFEST_TYPE}) as answer:
                if answer.status == HTTPStatus.NOT_FOUND:
                    raise Failure(HTTPStatus.INTERNAL_SERVER_ERROR, "pull model manifest: file does not exist")
                answer.raise_for_status()
                return await answer.read()
        except aiohttp.ClientConnectorError as error:
            why = f"Get {quoted(url)}: dial tcp {error.host}:{error.port}: connect: connection refused"
            raise Failure(HTTPStatus.INTERNAL_SERVER_ERROR, f"pull model manifest: {why}") from error
        except FAULTS as error:
            raise Failure(HTTPStatus.INTERNAL_SERVER_ERROR, f"pull model manifest: {error}") from error

    async def _layer(self, base_url: str, digest: str, size: int) -> _Progress:
        """Fetch one blob, unless it is there; tell how far it is."""
        told = {"status": f"pulling {digest.removeprefix('sha256:')[:SHORT]}", "digest": digest, "total": size}
        if self._site.store.blob(digest).exists():
            yield {**told, "completed": size}
            return
        yield told
        url = f"{base_url}/blobs/{digest}"
        try:
            async with self._site.client.get(url) as answer:
                answer.raise_for_status()
                await self._site.store.receive(digest, answer.content.iter_any())
        except WrongDigest:
            raise Failure(
                HTTPStatus.INTERNAL_SERVER_ERROR, f"digest mismatch, file must be downloaded again: want {digest}"
            ) from None
        except FAULTS as error:
            raise Failure(HTTPStatus.INTERNAL_SERVER_ERROR, str(error)) from error
        yield {**told, "completed": size}

    async def _pushed(self, name: Name, base_url: str) -> _Progress:
        yield {"status": "retrieving manifest"}
        path = self._site.store.manifests / name.path
        try:
            text = self._site.store.manifest_bytes(self._site.store.existing(name))
            manifest = self._site.store.manifest(self._site.store.existing(name))
        except OSError:
            yield {"status": "couldn't retrieve manifest"}
            why = f"open {path}: no such file or directory" if name.valid else "file does not exist"
            raise Failure(HTTPStatus.INTERNAL_SERVER_ERROR, why) from None
        for layer in (*manifest.layers, manifest.config):
            yield await self._sent(base_url, layer)
        yield {"status": "pushing manifest"}
        await self._put(f"{base_url}/manifests/{name.tag}", text, MANIFEST_TYPE)
        yield {"status": "success"}

    async def _sent(self, base_url: str, layer: Layer) -> dict[str, Any]:
        """Bring one blob to the registry, unless it has it."""
        told = {"status": f"pushing {layer.digest.removeprefix('sha256:')[:SHORT]}", "digest": layer.digest}
        try:
            async with self._site.client.head(f"{base_url}/blobs/{layer.digest}") as known:
                if not known.ok:
                    async with self._site.client.post(f"{base_url}/blobs/uploads/") as begun:
                        begun.raise_for_status()
                        place = begun.headers["Location"]
                    data = self._site.store.blob(layer.digest).read_bytes()
                    separator = "&" if "?" in place else "?"
                    await self._put(f"{place}{separator}digest={layer.digest}", data, "application/octet-stream")
        except FAULTS as error:
            raise Failure(HTTPStatus.INTERNAL_SERVER_ERROR, str(error)) from error
        return {**told, "total": layer.size, "completed": layer.size}

    async def _put(self, url: str, data: bytes, kind: str) -> None:
        try:
            async with self._site.client.put(url, data=data, headers={"Content-Type": kind}) as answer:
                answer.raise_for_status()
        except FAULTS as error:
            raise Failure(HTTPStatus.INTERNAL_SERVER_ERROR, f"Put {quoted(url)}: {error}") from error


def _registry(name: Name, *, insecure: bool) -> str:
    """Where a model's registry is. Plain HTTP is taken only if both the name and a field of the request say so."""
    scheme = "http" if name.scheme == "http" and insecure else "https"
    return f"{scheme}://{name.host}/v2/{name.namespace}/{name.model}"
