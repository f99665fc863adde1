"""Stores on disk as Ollama leaves them, made by hand: small, and as broken as a test wants."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

DEFAULT: Final = "registry.ollama.ai/library"


def digest_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def put_blob(root: Path, content: bytes) -> str:
    digest = digest_of(content)
    path = root / "blobs" / f"sha256-{digest}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return digest


def manifest_text(blobs: Sequence[tuple[str, int]]) -> bytes:
    (config, *layers) = [{"digest": f"sha256:{digest}", "size": size} for digest, size in blobs]
    return json.dumps({"schemaVersion": 2, "config": config, "layers": layers}).encode()


def put_model(
    root: Path, name: str, *contents: bytes, modified_s: float | None = None, raw: bytes | None = None
) -> str:
    """A model `NAME` or `NAME:TAG` of the default registry, made of these blobs; gives its digest."""
    blobs = [(put_blob(root, content), len(content)) for content in contents]
    text = raw if raw is not None else manifest_text(blobs)
    path = manifest_path(root, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text)
    if modified_s is not None:
        os.utime(path, (modified_s, modified_s))
    return digest_of(text)


def manifest_path(root: Path, name: str) -> Path:
    model, _, tag = name.partition(":")
    return root / "manifests" / DEFAULT / model / (tag or "latest")


def key(name: str) -> str:
    model, _, tag = name.partition(":")
    return f"{DEFAULT}/{model}/{tag or 'latest'}".lower()


def files(root: Path) -> Mapping[str, bytes]:
    """Everything in a store but what is ollamad's own."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and ".ollamad" not in path.parts
    }


def disk_bytes(*roots: Path) -> int:
    """What stores take on the disk together; hard links count once."""
    facts = [path.stat() for root in roots for path in (root / "blobs").iterdir()]
    return sum({(fact.st_dev, fact.st_ino): fact.st_blocks * 512 for fact in facts}.values())
