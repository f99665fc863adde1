"""A model that recites: real to Ollama, and known to the token, so that a stream can be checked for what it lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from gguf import GGUFWriter

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

WORDS: Final = tuple(f"w{number}" for number in range(100))
"""The vocabulary that tests use unless they need another."""

TEMPLATE: Final = "{{ if .System }}{{ .System }}\n{{ end }}{{ .Prompt }}\n"
"""Ends the prompt in a newline, so that it never ends in a word, and every recitation begins at word 0."""

CONTEXT_TOKENS: Final = 8192

_SPACE: Final = "\u2581"
"""How the vocabulary writes a space. Each word's token holds the space before it."""
_HEAD: Final = 32
"""Size of an attention head, and so what the vocabulary's size must be a multiple of."""
_NORMAL, _UNKNOWN, _CONTROL, _UNUSED, _BYTE = 1, 2, 3, 5, 6
_CERTAIN: Final = 5.0
"""The score of the next word; all others have 0. Scaled by the norm it is so far ahead that sampling never strays."""


def recitation(words: Sequence[str], n: int) -> str:
    """Return the text of the first `n` tokens: ` w0 w1 w2`, a space before each word, round and round.

    It is what any request with `num_predict` n must get, whatever its prompt, temperature and seed.
    """
    return "".join(f" {words[index % len(words)]}" for index in range(n))


def write_reciting_model(path: Path, words: Sequence[str] = WORDS) -> None:
    """Write a GGUF file (4 MB for 100 words) of a llama whose next word is always the one after the last.

    One token is one word; a prompt is read as bytes, one token each. After anything that is no word comes word 0. It
    never ends by itself: say `num_predict`, or it goes on to Ollama's own limit, ten times the context.
    """
    tokens, kinds = _vocabulary(words)
    writer = GGUFWriter(path, "llama")
    _describe(writer, tokens, kinds)
    for name, tensor in _tensors(len(tokens), len(words), tokens.index(_SPACE) + 1).items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _vocabulary(words: Sequence[str]) -> tuple[list[str], list[int]]:
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), _SPACE]
    kinds = [_UNKNOWN, _CONTROL, _CONTROL, *[_BYTE] * 256, _NORMAL]
    tokens += [_SPACE + word for word in words]
    kinds += [_NORMAL] * len(words)
    padding = -len(tokens) % _HEAD
    return [*tokens, *(f"<pad{number}>" for number in range(padding))], [*kinds, *[_UNUSED] * padding]


def _describe(writer: GGUFWriter, tokens: list[str], kinds: list[int]) -> None:
    size = len(tokens)
    writer.add_context_length(CONTEXT_TOKENS)
    writer.add_embedding_length(size)
    writer.add_block_count(1)
    writer.add_feed_forward_length(_HEAD)
    writer.add_head_count(size // _HEAD)
    writer.add_head_count_kv(size // _HEAD)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(_HEAD)
    writer.add_vocab_size(size)
    writer.add_file_type(0)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    # Only to tell tokens apart: a prompt's bytes are merged pair by pair, and no token lies between byte and word.
    writer.add_token_scores([-float(rank) for rank in range(size)])
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)


def _tensors(size: int, words: int, first: int) -> dict[str, NDArray[np.float32]]:
    """All weights: attention and feed-forward add nothing, so that the last token alone decides on the next."""
    following = np.zeros((size, size), dtype=np.float32)
    for token in range(size):
        is_word = first <= token < first + words
        following[first + (token - first + 1) % words if is_word else first, token] = _CERTAIN
    square, ones = np.zeros((size, size), dtype=np.float32), np.ones(size, dtype=np.float32)
    return {
        "token_embd.weight": np.eye(size, dtype=np.float32),
        "output_norm.weight": ones,
        "output.weight": following,
        "blk.0.attn_norm.weight": ones,
        "blk.0.ffn_norm.weight": ones,
        "blk.0.attn_q.weight": square,
        "blk.0.attn_k.weight": square,
        "blk.0.attn_v.weight": square,
        "blk.0.attn_output.weight": square,
        "blk.0.ffn_gate.weight": np.zeros((_HEAD, size), dtype=np.float32),
        "blk.0.ffn_up.weight": np.zeros((_HEAD, size), dtype=np.float32),
        "blk.0.ffn_down.weight": np.zeros((size, _HEAD), dtype=np.float32),
    }
