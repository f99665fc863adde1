"""Which prompts the slots of each child still hold.

A slot keeps the cache of its last prompt, and the next request that begins alike computes only what is new. A prompt
is cut into blocks and each block's hash includes all before it, so that two prompts share as many leading hashes as
they share blocks. Ollama does not say which slot took a request; the guess here follows what llama-server does: the
free slot that shares most, else the one that was used longest ago.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise
from typing import Final

BLOCK_BYTES: Final = 512
BLOCKS_MAX: Final = 256
"""Prompts are remembered up to 128 KiB; what follows rarely tells two apart."""
RUNNERS_MAX: Final = 512
"""Runners (of any child, past ones too) whose slots are remembered."""
SAME_CHAT: Final = 0.1
"""Share of a prompt that a slot must hold already to be preferred over the one unused longest (llama-server's own)."""

Prefix = tuple[int, ...]


def prefix_of(text: bytes, salt: int = 0) -> Prefix:
    """The chain of a prompt; whole blocks only. `salt` keeps apart what must not be taken for alike."""
    chain: list[int] = []
    last = salt
    for start, end in pairwise(range(0, min(len(text), BLOCK_BYTES * BLOCKS_MAX) + 1, BLOCK_BYTES)):
        last = hash((last, text[start:end]))
        chain.append(last)
    return tuple(chain)


def shared_blocks(one: Prefix, other: Prefix) -> int:
    """How many leading blocks are the same."""
    count = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        count += 1
    return count


class Prefixes:
    """What each runner's slots hold, by child, its life, and model. Bounded: the oldest runners are forgotten."""

    def __init__(self) -> None:
        self._slots: OrderedDict[tuple[str, int, str], list[Prefix]] = OrderedDict()

    def held_blocks(self, child: str, life: int, model: str, prefix: Prefix) -> int:
        """The most leading blocks of this prompt that a slot there holds."""
        if not prefix:
            return 0
        slots = self._slots.get((child, life, model))
        if slots is None:
            return 0
        first = prefix[0]
        return max((shared_blocks(held, prefix) for held in slots if held and held[0] == first), default=0)

    def sent(self, runner: tuple[str, int, str], prefix: Prefix, slots: int) -> None:
        """A prompt went there. `runner`: child, life, model."""
        held = self._slots.setdefault(runner, [])
        self._slots.move_to_end(runner)
        best = max(range(len(held)), key=lambda slot: shared_blocks(held[slot], prefix), default=None)
        if best is not None and shared_blocks(held[best], prefix) > SAME_CHAT * len(prefix):
            del held[best]
        elif len(held) >= slots:
            del held[0]
        held.append(prefix)
        while len(self._slots) > RUNNERS_MAX:
            self._slots.popitem(last=False)

    def unloaded(self, child: str, life: int, model: str) -> None:
        """The runner is gone, and its cache with it."""
        self._slots.pop((child, life, model), None)
