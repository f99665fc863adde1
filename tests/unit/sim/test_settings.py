from __future__ import annotations

from pathlib import Path

import pytest

from ollamad.sim.golang import FOREVER_NS, NS
from ollamad.sim.settings import settings_of
from ollamad.sim.timing import PRESETS, Timing, timing_of


def test_a_child_s_environment_is_understood() -> None:
    settings = settings_of(
        {
            "OLLAMA_HOST": "127.0.0.1:11500",
            "OLLAMA_MODELS": "/models",
            "OLLAMA_NUM_PARALLEL": "4",
            "OLLAMA_MAX_LOADED_MODELS": "0",
            "OLLAMA_KEEP_ALIVE": "-1",
            "OLLAMA_NOPRUNE": "1",
            "CUDA_VISIBLE_DEVICES": "GPU-a,GPU-b",
            "SIM_VRAM_BYTES": "1000",
        }
    )
    assert (settings.host, settings.port, settings.store) == ("127.0.0.1", 11500, Path("/models"))
    assert (settings.num_parallel, settings.max_loaded_models) == (4, 6)
    assert settings.keep_alive_ns == FOREVER_NS
    assert (settings.devices, settings.total_vram_bytes) == (("GPU-a", "GPU-b"), 2000)


def test_what_is_not_said_is_ollama_s_default() -> None:
    settings = settings_of({"HOME": "/home/me"})
    assert (settings.host, settings.port) == ("127.0.0.1", 11434)
    assert settings.store == Path("/home/me/.ollama/models")
    assert (settings.keep_alive_ns, settings.max_queue, settings.noprune) == (300 * NS, 512, False)


@pytest.mark.parametrize("devices", ["-1", ""])
def test_without_a_device_there_is_no_vram(devices: str) -> None:
    assert settings_of({"CUDA_VISIBLE_DEVICES": devices}).total_vram_bytes == 0


def test_a_preset_is_taken_and_single_times_over_it() -> None:
    assert timing_of({}) == Timing()
    timing = timing_of({"SIM_PRESET": "gpu", "SIM_LOAD_FIXED_S": "7"})
    assert (timing.load_fixed_s, timing.decode_fixed_s) == (7.0, PRESETS["gpu"].decode_fixed_s)


def test_times_are_what_their_parts_add_up_to() -> None:
    timing = Timing(load_fixed_s=1.0, load_bytes_per_s=10.0, prefill_tokens_per_s=100.0, decode_per_stream_s=0.5)
    assert (timing.load_s(20), timing.prefill_s(50), timing.step_s(3, 0)) == (3.0, 0.5, 1.5)
    assert (Timing().load_s(20), Timing().prefill_s(50)) == (0.0, 0.0)
