"""How long things take on a simulated GPU. Zero by default, so that tests of behaviour wait for nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Final


@dataclass(frozen=True, slots=True)
class Timing:
    """Every duration of the simulation; a field is set by the environment variable `SIM_` and its name in capitals."""

    start_s: float = 0.0
    """From the start of the process until it listens."""
    load_fixed_s: float = 0.0
    """Of each load: start of the runner, its checks, its graph."""
    load_bytes_per_s: float = 0.0
    """How fast weights come into VRAM; 0 is at once."""
    unload_s: float = 0.0
    """Until an evicted model's VRAM can be used again."""
    prefill_tokens_per_s: float = 0.0
    """Of a runner, over all its slots; 0 is at once."""
    decode_fixed_s: float = 0.0
    """Of one step that gives every stream a token, whatever their number."""
    decode_per_stream_s: float = 0.0
    """What each stream adds to that step."""
    decode_bytes_per_s: float = 0.0
    """How fast a step reads the weights, all of them for each: what makes large models slow. 0 is at once."""

    def load_s(self, size_bytes: int) -> float:
        """How long it takes to load so much."""
        return self.load_fixed_s + (size_bytes / self.load_bytes_per_s if self.load_bytes_per_s else 0.0)

    def prefill_s(self, tokens: int) -> float:
        """How long the runner works on so many tokens of a prompt that are in no cache."""
        return tokens / self.prefill_tokens_per_s if self.prefill_tokens_per_s else 0.0

    def step_s(self, streams: int, weights_bytes: int) -> float:
        """How long it takes until each of so many streams has its next token."""
        reading_s = weights_bytes / self.decode_bytes_per_s if self.decode_bytes_per_s else 0.0
        return self.decode_fixed_s + reading_s + self.decode_per_stream_s * streams


PRESETS: Final[Mapping[str, Timing]] = {
    "instant": Timing(),
    "gpu": Timing(
        start_s=0.5,
        load_fixed_s=1.0,
        load_bytes_per_s=2e9,
        unload_s=0.3,
        prefill_tokens_per_s=3000.0,
        decode_fixed_s=0.012,
        decode_per_stream_s=0.001,
    ),
}
"""`SIM_PRESET`. `gpu` is an 8B model in four bits on a card of 24 GB, its file not in the page cache."""


def timing_of(environment: Mapping[str, str]) -> Timing:
    """The preset, and what single variables say otherwise. Raises KeyError and ValueError for what there is not."""
    preset = PRESETS[environment.get("SIM_PRESET", "instant")]
    said = {field.name: environment.get(f"SIM_{field.name.upper()}") for field in fields(Timing)}
    return Timing(**{name: getattr(preset, name) if text is None else float(text) for name, text in said.items()})
