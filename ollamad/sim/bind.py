"""Request bodies, bound as Go's JSON decoder binds them: case of keys ignored, the last of a kind wins, its words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ollamad.sim.golang import keep_alive_ns

STRING: Final = "string"
BOOL: Final = "bool"
INT: Final = "int"
FLOAT: Final = "float64"
ANY: Final = "interface {}"
OPTIONS: Final = "map[string]interface {}"
STRINGS: Final = "map[string]string"
MESSAGES: Final = "[]api.Message"
INTS: Final = "[]int"
KEEP_ALIVE: Final = "api.Duration"

_HELD: Final[Mapping[str, tuple[type, ...]]] = {
    STRING: (str,),
    BOOL: (bool,),
    INT: (int,),
    FLOAT: (int, float),
    OPTIONS: (dict,),
    STRINGS: (dict,),
    MESSAGES: (list,),
    INTS: (list,),
}


@dataclass(frozen=True, slots=True)
class Shape:
    """A Go struct that a body is bound to."""

    name: str
    package: str
    fields: Mapping[str, str] = field(default_factory=dict)
    """The JSON names, each with its Go type."""


class BadRequest(Exception):
    """The body can't be bound; answered with 400 and these words."""


def bind(body: bytes, shape: Shape, *, empty: str = "missing request body") -> dict[str, Any]:
    """The fields that the body has, by their names; null is as not there. Raises BadRequest."""
    if not body:
        raise BadRequest(empty)
    value = _decoded(body)
    if not isinstance(value, dict):
        raise BadRequest(f"json: cannot unmarshal {_kind(value)} into Go value of type {shape.package}.{shape.name}")
    names = {name.lower(): name for name in shape.fields}
    bound = {}
    for key, item in value.items():
        name = names.get(key.lower())
        if name is not None and item is not None:
            bound[name] = _checked(item, shape, name)
    return bound


def _decoded(body: bytes) -> Any:
    text = body.decode("utf-8", "replace")
    try:
        return json.JSONDecoder().raw_decode(text.lstrip())[0]
    except json.JSONDecodeError as error:
        rest = text.lstrip()[error.pos :]
        if not rest or error.msg.startswith("Unterminated"):
            raise BadRequest("unexpected EOF") from error
        raise BadRequest(_unexpected(rest)) from error


def _unexpected(rest: str) -> str:
    """What Go says of a text that is no JSON value."""
    literal = next((word for word in ("null", "true", "false") if word[0] == rest[0]), None)
    if literal is None:
        return f"invalid character '{rest[0]}' looking for beginning of value"
    for found, wanted in zip(rest, literal, strict=False):
        if found != wanted:
            return f"invalid character '{found}' in literal {literal} (expecting '{wanted}')"
    return "unexpected EOF"


def _checked(item: Any, shape: Shape, name: str) -> Any:
    kind = shape.fields[name]
    if kind == KEEP_ALIVE:
        try:
            return keep_alive_ns(item)
        except ValueError as error:
            raise BadRequest(str(error)) from error
    allowed = _HELD.get(kind)
    if allowed is None or (isinstance(item, allowed) and (kind == BOOL or not isinstance(item, bool))):
        return item
    raise BadRequest(f"json: cannot unmarshal {_kind(item)} into Go struct field {shape.name}.{name} of type {kind}")


def _kind(value: Any) -> str:
    """JSON's name for what a value is, as Go's decoder puts it."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    return "string" if isinstance(value, str) else "array" if isinstance(value, list) else "object"
