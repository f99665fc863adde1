"""From what was said (file, environment, flags) to a checked `Config`; or every problem at once.

Precedence: flags, then `OLLAMAD_*` environment, then the file, then defaults. A later setting of a key replaces an
earlier one whole; lists are not merged.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from ollamad.config.checks import check
from ollamad.config.lines import key_lines
from ollamad.config.schema import Config
from ollamad.config.secrets import shown as hidden
from ollamad.errors import ConfigError, Problem

ENVIRONMENT_PREFIX: Final = "OLLAMAD_"
NOT_KEYS: Final = frozenset({"OLLAMAD_CONFIG", "OLLAMAD_SOCKET", "OLLAMAD_INSTANCE", "OLLAMAD_CHILD"})
"""`OLLAMAD_…` variables that are no configuration key: where things are, and the marks that children carry."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One key as somebody set it, unchecked."""

    key: str
    value: object
    origin: str
    """Who said so, for people: `ollamad.toml:12`, `OLLAMAD_PROXY_LISTEN`, `--set`."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A checked configuration, and who set what in it."""

    config: Config
    origins: Mapping[str, str]
    """Origin by key; a key that is absent has its default."""


def read(path: Path) -> tuple[Setting, ...]:
    """Read a TOML file. Raises ConfigError where it can't be read or is no TOML."""
    try:
        text = path.read_text(encoding="utf-8")
        tables = tomllib.loads(text)
    except OSError as error:
        who = f" by uid {os.getuid()}" if isinstance(error, PermissionError) else ""
        raise ConfigError((Problem(str(path), f"can't be read{who}: {error.strerror}"),)) from error
    except (ValueError, RecursionError) as error:  # besides its own: no UTF-8, endless digits, endless brackets
        raise ConfigError((Problem(str(path), f"is not valid TOML: {error}"),)) from error
    lines = key_lines(text)

    def origin(key: str, table: str) -> str:
        line = lines.get(key, lines.get(table))
        return f"{path}:{line}" if line else str(path)

    found: list[Setting] = []
    for table, content in tables.items():
        if isinstance(content, dict) and (content or table in Config.__struct_fields__):
            found += [
                Setting(f"{table}.{key}", value, origin(f"{table}.{key}", table)) for key, value in content.items()
            ]
        else:
            found.append(Setting(table, content, origin(table, table)))
    return tuple(found)


def from_environment(environ: Mapping[str, str]) -> tuple[Setting, ...]:
    """`OLLAMAD_PROXY_LISTEN=…` sets `proxy.listen`. A variable that is no key comes out as an unknown key."""
    found = []
    for name, text in sorted(environ.items()):
        if name.startswith(ENVIRONMENT_PREFIX) and name not in NOT_KEYS:
            table, _, key = name.removeprefix(ENVIRONMENT_PREFIX).lower().partition("_")
            found.append(Setting(f"{table}.{key}", _from_text(f"{table}.{key}", text), name))
    return tuple(found)


def parse_flag(text: str) -> Setting:
    """Read a flag's `TABLE.KEY=VALUE`. Raises ConfigError where it has another form."""
    key, equals, value = text.partition("=")
    if not equals or "." not in key:
        raise ConfigError(
            (Problem(text, "expected TABLE.KEY=VALUE, such as proxy.listen=127.0.0.1:8080", origin="--set"),)
        )
    return Setting(key.strip(), _from_text(key.strip(), value.strip()), "--set")


def load(*layers: Iterable[Setting], home: str) -> Loaded:
    """Check all settings, later layers first in rank. Raises ConfigError with every problem found.

    `home` is what `~` stands for.
    """
    chosen = {setting.key: setting for layer in layers for setting in layer}
    problems: list[Problem] = []
    tables: dict[str, dict[str, object]] = {}
    origins: dict[str, str] = {}
    for setting in chosen.values():
        found = _checked(setting)
        if isinstance(found, Problem):
            problems.append(found)
            continue
        table, _, key = setting.key.partition(".")
        tables.setdefault(table, {})[key] = found.value
        origins[setting.key] = setting.origin
    config = msgspec.convert(tables, Config)
    problems += check(config, origins, home)
    if problems:
        raise ConfigError(tuple(sorted(problems, key=lambda problem: problem.key)))
    return Loaded(config, origins)


def key_types() -> dict[str, Any]:
    """Each key's declared type, in the order of the schema."""
    return {
        f"{table}.{key}": kind
        for table, struct in get_type_hints(Config).items()
        for key, kind in get_type_hints(struct, include_extras=True).items()
    }


_TYPES: Final = key_types()


@dataclass(frozen=True, slots=True)
class _Good:
    value: object


def _checked(setting: Setting) -> _Good | Problem:
    kind = _TYPES.get(setting.key)
    if kind is None:
        return _unknown(setting)
    try:
        return _Good(msgspec.convert(setting.value, kind))
    except msgspec.ValidationError as error:
        if isinstance(setting.value, dict) and get_args(kind)[0] == dict[str, str]:
            # Its values may be secrets: name the entries, show none.
            wrong = ", ".join(name for name, value in setting.value.items() if not isinstance(value, str))
            return Problem(setting.key, f"expected text in quotes as the value of {wrong}", None, setting.origin)
        return Problem(setting.key, _reason(error, kind, setting.value), _shown(setting.value), setting.origin)


def _unknown(setting: Setting) -> Problem:
    table, dot, key = setting.key.partition(".")
    names = {name.partition(".")[0] for name in _TYPES}
    if not dot and table in names:
        return Problem(
            table, f"is a table: write it as [{table}]", _shown(hidden(table, setting.value)), setting.origin
        )
    if table not in names:
        hint = did_you_mean(table, names) or f"; there are {', '.join(f'[{name}]' for name in sorted(names))}"
        return Problem(setting.key, f"there is no table [{table}]{hint}", None, setting.origin)
    keys = {name.partition(".")[2] for name in _TYPES if name.startswith(f"{table}.")}
    hint = did_you_mean(key, keys) or f"; [{table}] has {', '.join(sorted(keys))}"
    told = hidden(setting.key, setting.value)  # a misspelt table of variables, or --set ollama.env.OLLAMA_API_KEY=…
    return Problem(setting.key, f"there is no such key{hint}", _shown(told), setting.origin)


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """`, did you mean "listen"?` where one of `words` is near; else an empty text."""
    near = difflib.get_close_matches(word, list(words), n=1, cutoff=0.6)
    return f', did you mean "{near[0]}"?' if near else ""


def _reason(error: msgspec.ValidationError, kind: object, value: object) -> str:
    """The decoder's sentence, and, where only certain words are allowed, those words."""
    if expected := _expected(kind):
        return f"expected {expected}"
    text = str(error).replace("`", "")
    words = _words(kind)
    if words and isinstance(value, str):
        allowed = " or ".join([*map(_shown, words), *_others(kind)])
        return f"expected {allowed}{did_you_mean(value, words)}"
    if kinds := _KINDS.fullmatch(text):
        return f"expected {_PLAIN.get(kinds[1], kinds[1])}, got {_PLAIN.get(kinds[2], kinds[2])}{kinds[3]}"
    return text[0].lower() + text[1:]


def _expected(kind: object) -> str | None:
    """The schema's own words for what a key takes, where it has them."""
    metas = (part for part in get_args(kind) if isinstance(part, msgspec.Meta) and part.extra)
    return next((str(meta.extra["expected"]) for meta in metas if meta.extra), None)


def _words(kind: object) -> tuple[str, ...]:
    if get_origin(kind) is Literal:
        return get_args(kind)
    if get_origin(kind) in {Annotated, types.UnionType, Union}:
        return tuple(word for part in get_args(kind) for word in _words(part))
    return ()


def _others(kind: object) -> list[str]:
    """What else than certain words a key takes, for people."""
    if get_origin(kind) in {Annotated, types.UnionType, Union}:
        return [name for part in get_args(kind) for name in _others(part)]
    return [name for base, name in _NAMES.items() if base in {kind, get_origin(kind)}]


_KINDS: Final = re.compile(r"Expected (\w+), got (\w+)(.*)")
_PLAIN: Final[Mapping[str, str]] = {
    "array": "a list",
    "bool": "true or false",
    "float": "a number",
    "int": "a whole number",
    "object": "a table",
    "str": "text in quotes",
}
"""What the decoder calls a value, in the words of who writes TOML."""
_NAMES: Final[Mapping[type, str]] = {int: "a whole number", tuple: "a list"}


def _shown(value: object) -> str:
    try:
        return json.dumps(value, default=str, ensure_ascii=False)
    except ValueError:
        return "a number of more digits than can be shown"


def _from_text(key: str, text: str) -> object:
    """A value that came as text: itself where the key takes text, else read as TOML (numbers, lists, true)."""
    if key in _TYPES and _accepts(_TYPES[key], text):
        return text
    try:
        found = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return found["value"] if len(found) == 1 else text


def _accepts(kind: Any, value: object) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True
