"""What a store holds, as it lies on disk. Blocks: a read of every manifest and a look at every blob."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ollamad.errors import StoreError
from ollamad.ollama.names import from_path
from ollamad.store.files import explained
from ollamad.store.layout import (
    BLOBS,
    MANIFEST_MAX_BYTES,
    MANIFESTS,
    Manifest,
    blob_file,
    blob_of_file,
    parse_manifest,
)

LEVELS = 4
"""Host, namespace, model, tag."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One model of a store."""

    path: str
    """Of its manifest below `manifests/`, in the case that it has on disk."""
    modified_ns: int
    """When its manifest was written, on the wall clock."""
    manifest: Manifest | None
    """None where it can't be read as one; `fault` then says why."""
    fault: str | None = None
    """Why a child can't run it: its manifest is none, or a blob is missing or of another size."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """The models of a store, or as many as were asked for."""

    models: dict[str, Entry] = field(default_factory=dict)
    """By `names.Name.key`."""
    empty: bool = True
    """Whether the store has no model at all, asked for or not."""


def read(root: Path, only: str | None = None) -> Inventory:
    """Read a store, or what it knows of one model (a `Name.key`). Raises StoreError where it can't be read."""
    models: dict[str, Entry] = {}
    empty = True
    try:
        for path in sorted(manifest_paths(root)):
            name = from_path(path)
            if name is None:
                continue  # Ollama passes over it, too
            empty = False
            if only is None or name.key == only:
                entry = _entry(root, path)
                known = models.get(name.key)
                if entry and (known is None or known.modified_ns < entry.modified_ns):
                    models[name.key] = entry
    except OSError as error:
        raise StoreError(f"the store {root} can't be read: {error.strerror} ({error.filename})") from error
    return Inventory(models, empty)


def manifest_paths(root: Path) -> Iterator[str]:
    """Every file where Ollama looks for manifests, as a path below `manifests/`; a store without any has none."""
    pending = [(root / MANIFESTS, "")]
    while pending:
        folder, prefix = pending.pop()
        try:
            entries = list(os.scandir(folder))
        except FileNotFoundError:  # a store that nobody has used, or a folder that Ollama just tidied away
            continue
        for entry in entries:
            path = f"{prefix}{entry.name}"
            depth = path.count("/") + 1
            if depth < LEVELS and entry.is_dir():
                pending.append((folder / entry.name, f"{path}/"))
            elif depth == LEVELS and entry.is_file():
                yield path


def blob_files(root: Path) -> dict[str, os.stat_result]:
    """Every file in `blobs/`, partial downloads included. Raises StoreError."""
    found: dict[str, os.stat_result] = {}
    with explained(root):
        try:
            entries = list(os.scandir(root / BLOBS))
        except FileNotFoundError:
            return found
        for entry in entries:
            with suppress(FileNotFoundError):  # gone since: a download that was finished
                facts = entry.stat()
                if stat.S_ISREG(facts.st_mode):
                    found[entry.name] = facts
    return found


def blob_size(root: Path, digest: str) -> int | None:
    """The size of a blob; None where the store has none. Raises StoreError."""
    with explained(root):
        try:
            return (root / BLOBS / blob_file(digest)).stat().st_size
        except FileNotFoundError:
            return None


def has_partials(root: Path) -> bool:
    """Whether a download is under way, or was left. Raises StoreError."""
    return any(name.startswith("sha256-") and blob_of_file(name) is None for name in blob_files(root))


def raw_manifest(root: Path, path: str) -> bytes:
    """The bytes of a manifest. Raises OSError."""
    with (root / MANIFESTS / path).open("rb") as file:
        return file.read(MANIFEST_MAX_BYTES + 1)


def _entry(root: Path, path: str) -> Entry | None:
    """One model; None where it went away while we looked."""
    try:
        modified_ns = (root / MANIFESTS / path).stat().st_mtime_ns
        raw = raw_manifest(root, path)
    except FileNotFoundError:
        return None
    try:
        manifest = parse_manifest(raw)
    except StoreError as error:
        return Entry(path, modified_ns, None, str(error))
    return Entry(path, modified_ns, manifest, _fault(root, manifest))


def _fault(root: Path, manifest: Manifest) -> str | None:
    for digest, size in manifest.blobs:
        found = blob_size(root, digest)
        if found is None:
            return f"lacks the blob {digest[:12]}"
        if found != size:
            return f"has the blob {digest[:12]} with {found} bytes instead of {size}"
    return None
