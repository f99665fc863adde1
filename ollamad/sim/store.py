"""A store on disk, laid out as Ollama lays it out, so that servers real and simulated can share one."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections.abc import AsyncIterable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ollamad.sim.golang import to_json
from ollamad.sim.names import Name

MANIFEST_TYPE: Final = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG_TYPE: Final = "application/vnd.docker.container.image.v1+json"
LAYER: Final = "application/vnd.ollama.image."
"""What layers' media types begin with: `model`, `template`, `system`, `params`, `license`, `messages` follow."""

_DIGEST: Final = re.compile(r"sha256[:-][0-9a-fA-F]{64}")


class WrongDigest(ValueError):
    """What came is not what was promised."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One blob of a model, and what it is."""

    media_type: str
    digest: str
    size: int
    origin: str = ""
    """The model or the file that it was made from."""

    @property
    def kind(self) -> str:
        """`model`, `template` and so on."""
        return self.media_type.removeprefix(LAYER)

    def encoded(self) -> dict[str, Any]:
        """As a manifest has it."""
        plain = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        return {**plain, "from": self.origin} if self.origin else plain


@dataclass(frozen=True, slots=True)
class Manifest:
    """A model: its configuration and its layers."""

    config: Layer
    layers: tuple[Layer, ...]
    digest: str
    """Of the manifest's own bytes, hexadecimal."""
    modified_ns: int

    @property
    def size(self) -> int:
        """Of all its blobs."""
        return sum(layer.size for layer in (self.config, *self.layers))

    def layer(self, kind: str) -> Layer | None:
        """The last layer of this kind."""
        return next((layer for layer in reversed(self.layers) if layer.kind == kind), None)


class Store:
    """One `OLLAMA_MODELS` directory. Nothing of it is cached: another server may change it at any time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.blobs = folder / "blobs"
        self.manifests = folder / "manifests"
        self.blobs.mkdir(parents=True, exist_ok=True)
        self.manifests.mkdir(parents=True, exist_ok=True)

    def names(self) -> Iterator[Name]:
        """The names of all models."""
        for path in sorted(self.manifests.glob("*/*/*/*")):
            name = Name(*path.relative_to(self.manifests).parts)
            if path.is_file() and name.valid:
                yield name

    def existing(self, name: Name) -> Name:
        """The name as the store has it, where it has it in another case."""
        return next((known for known in self.names() if known.folded == name.folded), name)

    def manifest(self, name: Name) -> Manifest:
        """A model's manifest. Raises FileNotFoundError, and ValueError where it is no manifest."""
        path = self.manifests / name.path
        text = path.read_bytes()
        value = json.loads(text)
        config = _layer(value["config"])
        layers = tuple(_layer(layer) for layer in value.get("layers") or ())
        return Manifest(config, layers, hashlib.sha256(text).hexdigest(), path.stat().st_mtime_ns)

    def manifest_bytes(self, name: Name) -> bytes:
        """The manifest as it lies there. Raises FileNotFoundError."""
        return (self.manifests / name.path).read_bytes()

    def write_manifest(self, name: Name, text: bytes) -> None:
        """Make a model of this name, or another model of it; at once for whoever reads."""
        path = self.manifests / name.path
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / f".manifest-{secrets.token_hex(8)}"
        temporary.write_bytes(text)
        temporary.replace(path)

    def delete(self, name: Name, *, prune: bool = True) -> None:
        """Take a model away, and the blobs that no other has. Raises FileNotFoundError."""
        manifest = self.manifest(name)
        path = self.manifests / name.path
        path.unlink()
        for folder in list(path.parents)[:3]:
            if any(folder.iterdir()):
                break
            folder.rmdir()
        if prune:
            self._drop({manifest.config.digest, *(layer.digest for layer in manifest.layers)})

    def _drop(self, digests: set[str]) -> None:
        used: set[str] = set()
        for name in self.names():
            manifest = self.manifest(name)
            used |= {manifest.config.digest, *(layer.digest for layer in manifest.layers)}
        for digest in digests - used:
            self.blob(digest).unlink(missing_ok=True)

    def prune(self) -> None:
        """What Ollama does as it starts, unless told otherwise: every blob that no model has goes, partial ones too."""
        self._drop({path.name.replace("-", ":", 1) for path in self.blobs.iterdir()})

    def blob(self, digest: str) -> Path:
        """Where a blob lies, or would."""
        return self.blobs / digest.replace(":", "-", 1)

    def text_of(self, layer: Layer | None) -> str:
        """What a layer of text says; nothing where there is none."""
        return "" if layer is None else self.blob(layer.digest).read_text("utf-8", "replace")

    def put(self, data: bytes, media_type: str) -> tuple[Layer, bool]:
        """Keep bytes as a blob; whether it was there already is told, too."""
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        path = self.blob(digest)
        known = path.exists()
        if not known:
            temporary = self.blobs / f"sha256-{secrets.token_hex(5)}"
            temporary.write_bytes(data)
            temporary.replace(path)
        return Layer(media_type, digest, len(data)), known

    async def receive(self, digest: str, parts: AsyncIterable[bytes]) -> None:
        """Keep what comes as the blob of this digest. Raises WrongDigest when it is another's."""
        temporary = self.blobs / f"sha256-{secrets.token_hex(5)}"
        found = hashlib.sha256()
        try:
            with temporary.open("wb") as out:
                async for part in parts:
                    found.update(part)
                    out.write(part)
            got = f"sha256:{found.hexdigest()}"
            if got != digest.replace("-", ":", 1):
                raise WrongDigest(f'digest mismatch, expected "{digest}", got "{got}"')
            temporary.replace(self.blob(digest))
        finally:
            temporary.unlink(missing_ok=True)


def is_digest(text: str) -> bool:
    """Whether it can name a blob."""
    return _DIGEST.fullmatch(text) is not None


def manifest_text(config: Layer, layers: Iterable[Layer]) -> bytes:
    """A manifest as Ollama writes it."""
    return (
        to_json(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST_TYPE,
                "config": config.encoded(),
                "layers": [layer.encoded() for layer in layers],
            }
        )
        + os.linesep.encode()
    )


def _layer(value: dict[str, Any]) -> Layer:
    return Layer(value["mediaType"], value["digest"], int(value["size"]), value.get("from") or "")
