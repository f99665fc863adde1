"""Modelfiles: what a model is to be made of, in lines of a command and its text."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final

_COMMAND: Final = re.compile(
    r"[ \t]*(?P<name>[A-Za-z]+)[ \t]+"
    r'(?:"""(?P<block>.*?)"""|"(?P<quoted>[^"]*)"(?=[ \t]*(?:\n|$))|(?P<line>[^\n]*))[ \t]*(?:\n|$)',
    re.DOTALL,
)
_BLANK: Final = re.compile(r"(?:[ \t]*(?:#[^\n]*)?\n)*[ \t]*(?:#[^\n]*)?")
_KNOWN: Final = frozenset({"from", "license", "template", "system", "adapter", "parameter", "message"})
_INTS: Final = frozenset(
    [
        "num_keep",
        "seed",
        "num_predict",
        "top_k",
        "repeat_last_n",
        "mirostat",
        "num_ctx",
        "num_batch",
        "num_gpu",
        "main_gpu",
        "num_thread",
    ]
)
_FLOATS: Final = frozenset(
    [
        "top_p",
        "min_p",
        "typical_p",
        "temperature",
        "repeat_penalty",
        "presence_penalty",
        "frequency_penalty",
        "mirostat_tau",
        "mirostat_eta",
        "tfs_z",
    ]
)
_BOOLS: Final = frozenset(
    ["numa", "low_vram", "f16_kv", "logits_all", "vocab_only", "use_mmap", "use_mlock", "penalize_newline"]
)


class BadModelfile(ValueError):
    """It can't be read; the text is Ollama's."""


class BadParameter(ValueError):
    """It is read, but asks for what can't be."""


@dataclass(slots=True)
class Recipe:
    """What a model is to be made of."""

    origin: str
    """A model's name, `@` and a blob's digest, or a path."""
    texts: dict[str, str] = field(default_factory=dict)
    """`template`, `system`, `license`."""
    parameters: dict[str, Any] = field(default_factory=dict)
    messages: list[dict[str, str]] = field(default_factory=list)


def parse_modelfile(text: str) -> Recipe:
    """Read a modelfile. Raises BadModelfile, BadParameter."""
    recipe = Recipe("")
    for name, value in _commands(text):
        if name == "from":
            recipe.origin = value.strip()
        elif name == "message":
            role, _, content = value.partition(" ")
            recipe.messages.append({"role": role, "content": content})
        elif name == "parameter":
            key, _, setting = value.partition(" ")
            _add_parameter(recipe.parameters, key, setting.strip().strip('"'))
        elif name in _KNOWN:
            recipe.texts[name] = value
    if not recipe.origin:
        raise BadModelfile("no FROM line")
    return recipe


def _commands(text: str) -> list[tuple[str, str]]:
    commands: list[tuple[str, str]] = []
    at = 0
    while True:
        blank = _BLANK.match(text, at)
        at = blank.end() if blank else at
        if at >= len(text):
            return commands
        found = _COMMAND.match(text, at)
        if found is None:
            raise BadModelfile("unexpected EOF")
        name = found["name"].lower()
        if name not in _KNOWN:
            raise BadModelfile(
                'command must be one of "from", "license", "template", "system", "adapter", "parameter", or "message"'
            )
        block, quoted = found["block"], found["quoted"]
        commands.append((name, block if block is not None else quoted if quoted is not None else found["line"].strip()))
        at = found.end()


def _add_parameter(parameters: dict[str, Any], key: str, text: str) -> None:
    if key == "stop":
        parameters.setdefault("stop", []).append(text)
        return
    try:
        if key in _INTS:
            parameters[key] = int(text)
        elif key in _FLOATS:
            parameters[key] = float(text)
        elif key in _BOOLS:
            parameters[key] = {"true": True, "false": False}[text.lower()]
        else:
            raise BadParameter(f"unknown parameter '{key}'")
    except (ValueError, KeyError) as error:
        if isinstance(error, BadParameter):
            raise
        kind = "int" if key in _INTS else "float" if key in _FLOATS else "bool"
        raise BadParameter(f"invalid {kind} value [{text}]") from error
