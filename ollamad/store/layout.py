"""How a store lies on disk, and what a manifest says. Pure.

`manifests/HOST/NAMESPACE/MODEL/TAG` is JSON that names blobs; `blobs/sha256-HEX` are those, named by their content. A
download that is not done is `sha256-HEX-partial` with `sha256-HEX-partial-N` beside it.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec

from ollamad.errors import StoreError

MANIFESTS: Final = "manifests"
BLOBS: Final = "blobs"
OURS: Final = ".ollamad"
"""A folder of ours in each store: Ollama looks only into the two above, and a rename out of it stays on one disk."""

MANIFEST_MAX_BYTES: Final = 4 * 1024**2

_DIGEST: Final = re.compile(r"sha256[:-]([0-9a-fA-F]{64})")
_BLOB_FILE: Final = re.compile(r"sha256-([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a manifest is, and needs."""

    digest: str
    """SHA-256 of its bytes, in hex: what Ollama shows as the digest of the model."""
    blobs: tuple[tuple[str, int], ...]
    """SHA-256 in hex and size in bytes of every blob that it names, each once."""


class _Layer(msgspec.Struct):
    digest: str = ""
    size: Annotated[int, msgspec.Meta(ge=0)] = 0


class _Json(msgspec.Struct):
    config: _Layer | None = None
    layers: list[_Layer] | None = None


_DECODER: Final = msgspec.json.Decoder(_Json)


def digest_hex(text: str) -> str | None:
    """The hex of `sha256:HEX` or `sha256-HEX`; None where it is no digest."""
    found = _DIGEST.fullmatch(text)
    return found[1].lower() if found else None


def blob_file(digest: str) -> str:
    """The name of a blob's file."""
    return f"sha256-{digest}"


def blob_of_file(name: str) -> str | None:
    """The digest that a file's name says; None for partial downloads and everything else."""
    found = _BLOB_FILE.fullmatch(name)
    return found[1] if found else None


def parse_manifest(raw: bytes) -> Manifest:
    """Read a manifest. Raises StoreError where it is none."""
    try:
        found = _DECODER.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise StoreError(f"is no manifest: {error}") from error
    blobs: dict[str, int] = {}
    for layer in [*([found.config] if found.config and found.config.digest else []), *(found.layers or [])]:
        digest = digest_hex(layer.digest)
        if digest is None:
            raise StoreError(f"names a blob by {layer.digest[:80]!r}, which is no digest")
        if blobs.setdefault(digest, layer.size) != layer.size:
            raise StoreError(f"names the blob {digest[:12]} with two sizes")
    if not blobs:
        raise StoreError("names no blob")
    return Manifest(hashlib.sha256(raw).hexdigest(), tuple(blobs.items()))
