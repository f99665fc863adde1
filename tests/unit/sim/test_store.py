from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ollamad.sim.model import read_model
from ollamad.sim.models import Shape, write_model
from ollamad.sim.names import parse
from ollamad.sim.store import Store, WrongDigest

SHAPE = Shape(8 * 1024**3)


async def parts(*given: bytes) -> AsyncIterator[bytes]:
    for part in given:
        yield part


def blobs(store: Store) -> list[str]:
    return sorted(path.name for path in store.blobs.iterdir())


def test_a_model_of_any_size_takes_no_room(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write_model(store, "big", SHAPE)
    model = read_model(store, parse("big"))
    assert model.weights_bytes == SHAPE.size_bytes
    assert model.blob.stat().st_blocks * 512 < 1_000_000
    assert (model.gguf.family, model.gguf.quantization, model.gguf.parameter_size) == ("llama", "Q4_K_M", "14.3B")
    assert model.gguf.kv_bytes_per_token == 2 * 2 * 32 * 8 * 128


def test_a_name_is_found_in_any_case(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write_model(store, "Big:One", SHAPE)
    assert store.existing(parse("bIG:oNE")) == parse("Big:One")
    assert store.existing(parse("other")) == parse("other")


def test_what_two_models_share_stays_until_the_second_is_deleted(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write_model(store, "a", SHAPE)
    store.write_manifest(parse("ns/b"), store.manifest_bytes(parse("a")))
    before = blobs(store)
    store.delete(parse("a"))
    assert blobs(store) == before
    store.delete(parse("ns/b"))
    assert blobs(store) == []
    assert list(store.manifests.iterdir()) == []


def test_pruning_takes_what_no_model_has(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write_model(store, "a", SHAPE)
    before = blobs(store)
    store.put(b"nobody's", "text")
    (store.blobs / f"sha256-{'0' * 64}-partial").write_bytes(b"half")
    store.prune()
    assert blobs(store) == before


async def test_a_blob_is_kept_only_if_it_is_what_it_should_be(tmp_path: Path) -> None:
    store = Store(tmp_path)
    digest = f"sha256:{hashlib.sha256(b'one two').hexdigest()}"
    with pytest.raises(WrongDigest, match="digest mismatch"):
        await store.receive(digest, parts(b"one ", b"three"))
    assert blobs(store) == []
    await store.receive(digest, parts(b"one ", b"two"))
    assert store.blob(digest).read_bytes() == b"one two"
    assert len(blobs(store)) == 1
