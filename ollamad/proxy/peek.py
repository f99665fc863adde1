"""A look into a request's body for what routing needs: the model, its options, how the prompt begins.

The rest is the child's. What can't be read is taken for absent: judging a request is the child's affair.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from ollamad.ollama.names import canonical
from ollamad.routing.prefixes import Prefix, prefix_of


class _Named(msgspec.Struct):
    """The two fields that name a model; `name` is the older one."""

    model: str | None = None
    name: str | None = None


_DECODER: Final = msgspec.json.Decoder(_Named)
_FORM_FIELD: Final = re.compile(rb';[ \t]*name="?model"?[ \t]*(?:;[^\r\n]*)?\r\n(?:[^\r\n]+\r\n)*\r\n([^\r\n]+)\r\n')


def model_of(body: bytes, content_type: str) -> str | None:
    """The canonical name of the model, or None where none can be read: what the child makes of that is its affair."""
    if content_type == "multipart/form-data":
        field = _FORM_FIELD.search(body)
        return canonical(field[1].decode("utf-8", "replace")) if field else None
    try:
        named = _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    name = named.model or named.name
    return canonical(name) if name else None


RELOADING: Final = ("num_ctx", "num_batch", "num_gpu", "main_gpu", "use_mmap", "num_thread", "draft_num_predict")
"""Options that a runner is started with (0.33, server/sched.go:1381): others than it has make Ollama load it anew."""
IMAGES: Final = re.compile(rb'"(?:images|image_url)"\s*:|"type"\s*:\s*"(?:image|input_image|image_url)"')


class _Asked(msgspec.Struct):
    """What a request for a runner says, left as it is in the body."""

    system: msgspec.Raw = msgspec.Raw(b"")
    prompt: msgspec.Raw = msgspec.Raw(b"")
    messages: msgspec.Raw = msgspec.Raw(b"")
    input: msgspec.Raw = msgspec.Raw(b"")
    instructions: msgspec.Raw = msgspec.Raw(b"")
    options: msgspec.Raw = msgspec.Raw(b"")
    keep_alive: msgspec.Raw = msgspec.Raw(b"")


_ASKED: Final = msgspec.json.Decoder(_Asked)
_NOTHING: Final = frozenset({b"", b"null", b'""', b"[]"})
LONGEST_NOTHING: Final = max(map(len, _NOTHING))
"""What is longer is not looked for among them: to find 20 MB in a set takes 10 ms."""
_AT_ONCE: Final = frozenset({b"0", b"0.0", b'"0"', b'"0s"'})


class Peeked(msgspec.Struct, frozen=True):
    """What a body says to routing."""

    prompt_bytes: int = 0
    """Of its text; 0 where there is none, or images among it make the bytes say nothing of the tokens."""
    prefix: Prefix = ()
    shape: str = ""
    """See `Request.shape`."""
    unloads: bool = False
    """It asks for nothing but that the model be unloaded."""


NOTHING: Final = Peeked()


def peek(body: bytes, usual: Mapping[str, object]) -> Peeked:
    """Look into a JSON body. `usual` are the options that the children have by themselves."""
    try:
        asked = _ASKED.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return NOTHING
    fields = (asked.system, asked.instructions, asked.prompt, asked.messages, asked.input)
    parts = [bytes(field) for field in fields if len(field) > LONGEST_NOTHING or bytes(field) not in _NOTHING]
    text = parts[0] if len(parts) == 1 else b"".join(parts)
    shape = _shape(bytes(asked.options), usual)
    if not text:
        return Peeked(shape=shape, unloads=bytes(asked.keep_alive) in _AT_ONCE)
    counted = 0 if IMAGES.search(text) else len(text)
    return Peeked(counted, prefix_of(text), shape)


def _shape(options: bytes, usual: Mapping[str, object]) -> str:
    """The options that matter, where they differ from what the children have anyway."""
    if options in _NOTHING or options == b"{}":
        return ""
    try:
        found: dict[str, Any] = msgspec.json.decode(options, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    kept = {
        name: found[name]
        for name in RELOADING
        if found.get(name) is not None
        and found[name] != usual.get(name)
        and isinstance(found[name], int | float | bool)
    }
    return msgspec.json.encode(kept).decode() if kept else ""
