"""What only real hardware shows; skipped, with the reason, where there is none."""

from __future__ import annotations

import ctypes

import pytest

from tests.support.asker import Start, start

__all__ = ["start"]


def _has_driver() -> bool:
    try:
        ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return False
    return True


pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not _has_driver(), reason="no NVIDIA driver on this machine (libnvidia-ml.so.1 was not found)"),
]


def test_a_real_driver_gives_its_gpus_and_readings_and_can_be_asked_anew(start: Start) -> None:
    asker = start({})
    uuids = [gpu["uuid"] for gpu in asker.discover()["gpus"]]
    assert uuids, "a driver without a GPU"
    for _ in range(3):
        for sample in asker.sample(*uuids):
            assert (sample["error"], sample["fault"]) == (None, None)
            assert sample["memory_used_bytes"] is not None
        assert asker.events() == []
        assert [gpu["uuid"] for gpu in asker.discover()["gpus"]] == uuids
