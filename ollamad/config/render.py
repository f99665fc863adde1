"""The configuration as text: the example file with every key, and what is in force."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from typing import Any, Final, get_args, get_type_hints

import msgspec
import tomli_w
from msgspec import Meta

from ollamad.config.load import Loaded, key_types
from ollamad.config.schema import Config
from ollamad.config.secrets import shown

WIDTH = 110
"""Columns of the example file."""

VARIABLES = "env"
"""The table that may hold keys; and what is printed here is pasted elsewhere."""

HEADER = """\
# ollamad: every key, with its default and why it is so. All are optional.
# An environment variable OLLAMAD_TABLE_KEY or a flag --set table.key=value goes before this file.
# `ollamad check --config FILE` says what is wrong with a file, and what is in force.
# Drawn from ollamad/config/schema/ by `ollamad check --example`.
"""
IN_FORCE: Final = "# What is in force. Above each key that is set stands where; all others have their defaults.\n"


def render_example() -> str:
    """The text of `config.example.toml`."""
    types = key_types()
    return HEADER + "".join(_lines(Config(), lambda key: _why(types[key])))


def render_effective(loaded: Loaded) -> str:
    """Every key in force, as TOML, those that are not left to their defaults with who set them."""
    return IN_FORCE + "".join(
        _lines(loaded.config, lambda key: [f"# {loaded.origins[key]}"] if key in loaded.origins else [])
    )


def _lines(config: Config, comments: Callable[[str], list[str]]) -> Iterator[str]:
    for table, struct in get_type_hints(Config).items():
        values = msgspec.to_builtins(getattr(config, table))
        yield f"\n[{table}]  # {_first_line(struct)}\n"
        for key in sorted(values, key=lambda key: isinstance(values[key], dict)):
            comment = comments(f"{table}.{key}")
            value = values[key]
            if isinstance(value, dict):
                yield "".join(f"{line}\n" for line in ["", *comment])
                yield tomli_w.dumps({table: {key: shown(key, value) if key == VARIABLES else value}})
            else:
                yield "".join(f"{line}\n" for line in [*comment, tomli_w.dumps({key: value}).strip()])


def _why(key_type: Any) -> list[str]:
    meta = next(part for part in get_args(key_type) if isinstance(part, Meta) and part.description)
    return textwrap.wrap(str(meta.description), WIDTH, initial_indent="# ", subsequent_indent="# ")


def _first_line(struct: type) -> str:
    return str(struct.__doc__).strip().splitlines()[0]
