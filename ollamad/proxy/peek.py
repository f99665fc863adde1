"""A look into a request's body for what routing needs: the model's name. The rest is the child's."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from ollamad.ollama.names import canonical


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
