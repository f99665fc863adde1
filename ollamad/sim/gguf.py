"""The head of a GGUF file: what it says of the model, and how many parameters its tensors have."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

MAGIC: Final = b"GGUF"
ARRAY_MAX: Final = 1024
"""From this length on an array is left out of what `show` tells, unless asked for."""

_SCALARS: Final = {**dict(enumerate(("<B", "<b", "<H", "<h", "<I", "<i", "<f", "<?"))), 10: "<Q", 11: "<q", 12: "<d"}
_STRING: Final = 8
_ARRAY: Final = 9
_FILE_TYPES: Final = {1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 14: "Q4_K_S", 15: "Q4_K_M", 18: "Q6_K"}
_THOUSAND: Final = 10**3
_MILLION: Final = 10**6
_BILLION: Final = 10**9


class NotGguf(ValueError):
    """The file is no GGUF; carries the content type that Ollama would see in it."""


@dataclass(frozen=True, slots=True)
class Gguf:
    """What a file's head says."""

    values: Mapping[str, Any]
    parameters: int

    @property
    def family(self) -> str:
        """The architecture: `llama`, `gemma3`."""
        return str(self.values.get("general.architecture", "unknown"))

    @property
    def quantization(self) -> str:
        """As Ollama 0.5.4 names it, for which 0 (32 bits) is unknown."""
        return _FILE_TYPES.get(int(self.values.get("general.file_type", 0)), "unknown")

    @property
    def parameter_size(self) -> str:
        """The number of parameters, for people."""
        count = self.parameters
        if count >= _BILLION:
            return f"{count / _BILLION:.{0 if count % _BILLION == 0 else 1}f}B"
        if count >= _MILLION:
            return f"{count / _MILLION:.{0 if count % _MILLION == 0 else 2}f}M"
        return f"{count / _THOUSAND:.0f}K" if count >= _THOUSAND else str(count)

    def number(self, key: str, default: int) -> int:
        """A number under the architecture's own prefix."""
        return int(self.values.get(f"{self.family}.{key}", default))

    @property
    def kv_bytes_per_token(self) -> int:
        """What one token of context takes in VRAM: keys and values of 16 bits."""
        heads = max(1, self.number("attention.head_count", 1))
        width = self.number("embedding_length", 0) * self.number("attention.head_count_kv", heads) // heads
        return 4 * self.number("block_count", 0) * width

    @property
    def words(self) -> tuple[str, ...]:
        """The words of a reciting model's vocabulary, in their order; empty for any other."""
        tokens = self.values.get("tokenizer.ggml.tokens") or []
        return tuple(token[1:] for token in tokens if token.startswith("\u2581") and len(token) > 1)


def read_gguf(path: Path) -> Gguf:
    """Read a file's head. Raises NotGguf, and OSError."""
    with path.open("rb") as file:
        if file.read(4) != MAGIC:
            file.seek(0)
            raise NotGguf(_content_type(file.read(512)))
        try:
            _, tensors, count = struct.unpack("<IQQ", file.read(20))
            values = {_string(file): _value(file) for _ in range(count)}
            return Gguf(values, sum(_elements(file) for _ in range(tensors)))
        except (struct.error, KeyError, UnicodeDecodeError) as error:
            raise NotGguf("application/octet-stream") from error


def _string(file: BinaryIO) -> str:
    return file.read(struct.unpack("<Q", file.read(8))[0]).decode()


def _value(file: BinaryIO) -> Any:
    return _typed(file, struct.unpack("<I", file.read(4))[0])


def _typed(file: BinaryIO, kind: int) -> Any:
    if kind == _STRING:
        return _string(file)
    if kind == _ARRAY:
        inner, count = struct.unpack("<IQ", file.read(12))
        return [_typed(file, inner) for _ in range(count)]
    form = _SCALARS[kind]
    value = struct.unpack(form, file.read(struct.calcsize(form)))[0]
    return _shortest(value) if form == "<f" else value


def _shortest(value: float) -> float:
    """The number with the fewest digits that is the same in 32 bits, which is how Go writes such a number."""
    for digits in range(6, 10):
        short = float(f"{value:.{digits}g}")
        if struct.pack("<f", short) == struct.pack("<f", value):
            return short
    return value


def _elements(file: BinaryIO) -> int:
    _string(file)
    dimensions = struct.unpack("<I", file.read(4))[0]
    shape = struct.unpack(f"<{dimensions}Q", file.read(8 * dimensions))
    file.read(12)  # its kind and its place
    return math.prod(shape)


def _content_type(head: bytes) -> str:
    printable = all(byte >= ord(" ") or byte in b"\t\n\r\f\x1b" for byte in head)
    return "text/plain; charset=utf-8" if printable else "application/octet-stream"
