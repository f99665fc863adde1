"""Models of any size that take no room on disk, for simulated servers: a GGUF head, and then nothing but a hole."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ollamad.sim.gguf import MAGIC
from ollamad.sim.making import configuration
from ollamad.sim.model import read_head
from ollamad.sim.names import parse
from ollamad.sim.store import CONFIG_TYPE, LAYER, Layer, Store, manifest_text

_UINT32: Final = 4
_STRING: Final = 8
_TENSOR: Final = "weights"
_BYTES_PER_PARAMETER: Final = 0.6
"""Of weights in four bits, with what lies beside them."""
_Q4_K_M: Final = 15


@dataclass(frozen=True, slots=True)
class Shape:
    """What a simulated model is like."""

    size_bytes: int
    context: int = 32_768
    layers: int = 32
    width: int = 4096
    heads: int = 32
    kv_heads: int = 8
    family: str = "llama"


def write_model(store: Store, name: str, shape: Shape) -> None:
    """Put a model of this shape into the store. Its digest is of its name and shape: verifying the blob would fail."""
    head = _head(shape)
    digest = f"sha256:{hashlib.sha256(f'{name} {shape}'.encode()).hexdigest()}"
    path = store.blob(digest)
    with path.open("wb") as out:
        out.write(head)
        out.truncate(max(shape.size_bytes, len(head)))
    weights = Layer(f"{LAYER}model", digest, path.stat().st_size)
    template, _ = store.put(b"{{ if .System }}{{ .System }}\n{{ end }}{{ .Prompt }}\n", f"{LAYER}template")
    config, _ = store.put(configuration(read_head(path), [weights, template]), CONFIG_TYPE)
    store.write_manifest(parse(name), manifest_text(config, [weights, template]))


def put_model(store: Store, name: str, gguf: Path) -> None:
    """Put a model of a GGUF file into the store, with no template of its own."""
    weights, _ = store.put(gguf.read_bytes(), f"{LAYER}model")
    config, _ = store.put(configuration(read_head(gguf), [weights]), CONFIG_TYPE)
    store.write_manifest(parse(name), manifest_text(config, [weights]))


def _head(shape: Shape) -> bytes:
    family = shape.family
    numbers = {
        "general.file_type": _Q4_K_M,
        f"{family}.context_length": shape.context,
        f"{family}.block_count": shape.layers,
        f"{family}.embedding_length": shape.width,
        f"{family}.attention.head_count": shape.heads,
        f"{family}.attention.head_count_kv": shape.kv_heads,
    }
    pairs = [_text("general.architecture") + struct.pack("<I", _STRING) + _text(family)]
    pairs += [_text(key) + struct.pack("<II", _UINT32, value) for key, value in numbers.items()]
    tensor = _text(_TENSOR) + struct.pack("<IQIQ", 1, round(shape.size_bytes / _BYTES_PER_PARAMETER), 0, 0)
    return MAGIC + struct.pack("<IQQ", 3, 1, len(pairs)) + b"".join(pairs) + tensor


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()
