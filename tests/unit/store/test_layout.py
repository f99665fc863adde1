from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamad.errors import StoreError
from ollamad.store.layout import blob_file, blob_of_file, digest_hex, parse_manifest
from tests.support.stores import digest_of, manifest_text

HEX = "ab" * 32
DIGESTS = st.binary(max_size=4).map(digest_of)


@given(st.dictionaries(DIGESTS, st.integers(0, 2**40), min_size=1))
def test_a_manifest_names_its_blobs_each_once(blobs: dict[str, int]) -> None:
    raw = manifest_text(list(blobs.items()))
    found = parse_manifest(raw)
    assert dict(found.blobs) == blobs
    assert found.digest == digest_of(raw)


@given(st.binary())
def test_bytes_that_are_no_manifest_are_told_and_crash_nothing(raw: bytes) -> None:
    with pytest.raises(StoreError):
        parse_manifest(raw)


@pytest.mark.parametrize(
    ("manifest", "told"),
    [
        ({}, "names no blob"),
        ({"layers": []}, "names no blob"),
        ({"layers": [{"digest": "sha256:xyz", "size": 1}]}, "is no digest"),
        ({"layers": [{"digest": "../../etc/passwd", "size": 1}]}, "is no digest"),
        ({"layers": [{"digest": f"sha256:{HEX}", "size": -1}]}, "is no manifest"),
        ({"layers": [{"digest": f"sha256:{HEX}", "size": 1}, {"digest": f"sha256:{HEX}", "size": 2}]}, "two sizes"),
        ({"layers": "none"}, "is no manifest"),
        ([], "is no manifest"),
    ],
)
def test_each_thing_wrong_with_a_manifest_is_named(manifest: Any, told: str) -> None:
    with pytest.raises(StoreError, match=told):
        parse_manifest(json.dumps(manifest).encode())


def test_a_manifest_of_a_model_elsewhere_may_have_a_config_alone() -> None:
    raw = json.dumps({"config": {"digest": f"sha256:{HEX}", "size": 3}, "layers": None}).encode()
    assert parse_manifest(raw).blobs == ((HEX, 3),)


def test_digests_are_read_in_both_spellings_and_nothing_else_is_one() -> None:
    assert digest_hex(f"sha256:{HEX}") == digest_hex(f"sha256-{HEX.upper()}") == HEX
    assert [digest_hex(text) for text in ("", HEX, f"sha256:{HEX}0", f"md5:{HEX}", f"sha256:{HEX}/..")] == [None] * 5


def test_only_whole_blobs_are_blobs() -> None:
    assert blob_of_file(blob_file(HEX)) == HEX
    names = (f"sha256-{HEX}-partial", f"sha256-{HEX}-partial-3", "sha256-123456", "README")
    assert [blob_of_file(name) for name in names] == [None] * 4
