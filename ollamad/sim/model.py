"""A model out of the store, with all that inference needs of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ollamad.sim.gguf import Gguf, NotGguf, read_gguf
from ollamad.sim.names import Name
from ollamad.sim.store import Manifest, Store

NOTHING = Gguf({}, 0)


@dataclass(frozen=True, slots=True)
class Model:
    """What the store says of one name."""

    name: Name
    manifest: Manifest
    config: dict[str, Any]
    blob: Path
    """Of the weights: what a runner is keyed by, so that two names of one file share it."""
    gguf: Gguf
    template: str
    system: str
    license: str
    parameters: dict[str, Any]
    messages: list[dict[str, Any]]

    @property
    def weights_bytes(self) -> int:
        """Of all layers that go to VRAM."""
        return sum(layer.size for layer in self.manifest.layers if layer.kind in {"model", "projector", "adapter"})

    def details(self, parent: str = "") -> dict[str, Any]:
        """As `/api/tags` and others tell it."""
        return {
            "parent_model": parent,
            "format": self.config.get("model_format", ""),
            "family": self.config.get("model_family", ""),
            "families": self.config.get("model_families"),
            "parameter_size": self.config.get("model_type", ""),
            "quantization_level": self.config.get("file_type", ""),
        }


def read_model(store: Store, name: Name) -> Model:
    """Read a model by the name that the store has it under. Raises FileNotFoundError, and ValueError."""
    manifest = store.manifest(name)
    weights = manifest.layer("model")
    blob = store.blob(weights.digest if weights else manifest.config.digest)
    parameters, messages = store.text_of(manifest.layer("params")), store.text_of(manifest.layer("messages"))
    return Model(
        name,
        manifest,
        json.loads(store.text_of(manifest.config)),
        blob,
        read_head(blob) if weights else NOTHING,
        store.text_of(manifest.layer("template")) or "{{ .Prompt }}",
        store.text_of(manifest.layer("system")),
        store.text_of(manifest.layer("license")),
        json.loads(parameters) if parameters else {},
        json.loads(messages) if messages else [],
    )


@lru_cache(maxsize=64)
def read_head(blob: Path) -> Gguf:
    """Blobs never change, so their heads are read once."""
    try:
        return read_gguf(blob)
    except NotGguf:
        return NOTHING
