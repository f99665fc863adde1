"""What a simulated model says: its words in their order, round and round, from the first, whatever it is asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import count
from typing import Final

WORDS: Final = tuple(f"w{number}" for number in range(100))
"""Of a model whose file names none."""


class Done(Enum):
    """Why an answer ended, in Ollama's words."""

    LENGTH = "length"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Piece:
    """One token's worth of an answer; `text` is empty while it might be the beginning of a stop sequence."""

    text: str
    done: Done | None = None


def recital(words: Sequence[str], length: int, stop: Sequence[str], end: Done) -> Iterator[Piece]:
    """A piece for each token; the last one says why it is the last: `end` after `length` tokens, or a stop sequence."""
    words = words or WORDS
    held = ""
    for index in count(1):
        held += f" {words[(index - 1) % len(words)]}"
        cut = min((held.find(sequence) for sequence in stop if sequence in held), default=-1)
        if cut >= 0:
            yield Piece(held[:cut], Done.STOP)
            return
        if index >= length:
            yield Piece(held, end)
            return
        if _might_stop(held, stop):
            yield Piece("")
        else:
            yield Piece(held)
            held = ""


def _might_stop(text: str, stop: Sequence[str]) -> bool:
    return any(text.endswith(sequence[:length]) for sequence in stop for length in range(1, len(sequence)))
