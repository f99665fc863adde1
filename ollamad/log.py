"""How logs look: coloured columns on a terminal, fields in the journal, one JSON object a line elsewhere."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextvars import ContextVar
from datetime import UTC, datetime
from enum import Enum
from functools import cache
from typing import Any, Final

import msgspec
import structlog

from ollamad.config.schema import Log
from ollamad.systemd.journal import entry, is_journal, the_journal

_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_QUIET: Final = tuple(structlog.make_filtering_bound_logger(_LEVELS[name]) for name in ("info", "warning", "error"))
REQUEST: Final[ContextVar[Mapping[str, object] | None]] = ContextVar("request", default=None)
"""Facts of the request at hand, part of whatever is logged while it is served. structlog's own context variables, one
for each fact, take 5 µs a request; setting and reading this one takes 0.3."""
_TELLS_INFO: Final = tuple(structlog.make_filtering_bound_logger(_LEVELS[name]) for name in ("debug", "info"))
_ENCODER: Final = msgspec.json.Encoder(enc_hook=repr)

IDENTIFIER: Final = "ollamad"
PRIORITIES: Final[Mapping[str, str]] = {"debug": "7", "info": "6", "warning": "4", "error": "3", "critical": "2"}
"""A level as syslog(3) counts it."""
_quoted: Final = json.JSONEncoder(ensure_ascii=False).encode
SHOWN_MAX: Final = 300
"""A longer value is shortened where it stands in the message; its own field has all of it."""


log = structlog.get_logger()


class Lossy:
    """Lines to a file, dropped while it takes none: a full disk costs its log, not the requests being served.

    Unbuffered: what a buffer could not get rid of would fail again when the process exits.
    """

    def __init__(self, descriptor: int) -> None:
        self._file = open(descriptor, "wb", buffering=0, closefd=False)  # noqa: SIM115 - kept

    def __call__(self, *_name: object) -> Lossy:
        """Serve as structlog's factory of loggers: there is only this one."""
        return self

    def msg(self, message: str | bytes) -> None:
        """Write one line."""
        line = message if isinstance(message, bytes) else message.encode(errors="replace")
        with contextlib.suppress(OSError):
            self._file.write(line + b"\n")

    debug = info = warning = error = exception = msg


class Format(Enum):
    """How events leave, once `auto` is decided."""

    CONSOLE = "console"
    JSON = "json"
    JOURNAL = "journal"


def with_request(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Add the facts of the request at hand."""
    facts = REQUEST.get()
    return event if facts is None else {**facts, **event}


def head_first(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """When, how bad and what before the facts: a line of JSON is read from its left, too."""
    return {**{name: event[name] for name in ("timestamp", "level", "event") if name in event}, **event}


def as_json(_logger: object, _method: str, event: Mapping[str, Any]) -> bytes:
    """One event as a JSON object. An access log is written for every request: json.dumps takes 4 µs, this 0.3."""
    try:
        return _ENCODER.encode(event)
    except (TypeError, ValueError, OverflowError):  # a client's path may hold what is no Unicode
        return json.dumps(event, default=repr).encode()


def as_entry(_logger: object, _method: str, event: MutableMapping[str, Any]) -> bytes:
    """One event for the journal: a message to read, and each fact as a field, OLLAMAD_CHILD and so on."""
    return entry(_fields(event))


def _fields(event: MutableMapping[str, Any]) -> Iterator[tuple[str, str]]:
    name, level = str(event.pop("event", "")), str(event.pop("level", "info"))
    told = event.pop("exception", None)
    facts = {key: _as_text(value) for key, value in event.items() if value is not None}
    shown = "".join([f" {key}={_shown(text, event[key])}" for key, text in facts.items()])
    yield "MESSAGE", _visible(name) + shown + (f"\n{told}" if told else "")
    yield "PRIORITY", PRIORITIES.get(level, PRIORITIES["info"])
    yield "SYSLOG_IDENTIFIER", IDENTIFIER
    yield "OLLAMAD_EVENT", name
    for key, text in facts.items():
        yield _field_name(key), text


@cache
def _field_name(key: str) -> str:
    """Of a fact: keys are ours, and few."""
    return f"OLLAMAD_{key.upper()}"


def _as_text(value: object) -> str:
    """A value as a field has it: text as it is, all else as JSON has it."""
    if isinstance(value, str):
        return value
    if type(value) is int:
        return str(value)
    return as_json(None, "", {"": value})[len('{"":') : -1].decode().strip()


def _shown(text: str, value: object) -> str:
    """A value as the message shows it: short, and text in quotes where it could be taken for more than one."""
    short = text if len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]}…"
    if isinstance(value, str) and (not short or " " in short or '"' in short):
        return _quoted(short) if short.isprintable() else json.dumps(short)
    return _visible(short)


def _visible(text: str) -> str:
    """Without what can't be seen: journalctl shows a message with a control character in it as `[blob data]`."""
    return text if text.isprintable() else json.dumps(text)


def printable(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Texts without what a terminal would obey: paths, names of models and lines of children are strangers' words."""
    for name, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            event[name] = "".join(one if one.isprintable() else ascii(one)[1:-1] for one in value)
    return event


def brief(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """What a line on a terminal has room for: no fact that is none, and a part of long ones, as Ollama's settings.

    The journal and JSON have all of each.
    """
    shown = {name: value for name, value in event.items() if value is not None}
    for name, value in shown.items():
        if isinstance(value, str) and len(value) > SHOWN_MAX and name not in {"event", "exception"}:
            shown[name] = f"{value[:SHOWN_MAX]}…"
    return shown


def access(event: str, facts: dict[str, object]) -> None:
    """Tell one event at level info that every request has, and that has all its facts together.

    As `log.info(event, **facts)` tells it, but where lines of JSON are written it goes there at once: the way through
    structlog's layers is a sixth of what a small request costs.
    """
    config = structlog.get_config()
    if config["processors"][-1] is not as_json:
        log.info(event, **facts)
    elif config["wrapper_class"] in _TELLS_INFO:
        line = {"timestamp": datetime.now(UTC), "level": "info", "event": event, **(REQUEST.get() or {}), **facts}
        config["logger_factory"].msg(as_json(None, "info", line))


def tells_debug() -> bool:
    """Whether debug events are told: for those that cost something to put together."""
    return structlog.get_config()["wrapper_class"] not in _QUIET


def format_of(setting: str, descriptor: int, environ: Mapping[str, str]) -> Format:
    """What a setting means for this standard error."""
    if setting != "auto":
        return Format(setting)
    if os.isatty(descriptor):
        return Format.CONSOLE
    return Format.JOURNAL if is_journal(descriptor, environ) else Format.JSON


def set_up(settings: Log) -> None:
    """Make every later log event look as the configuration says."""
    descriptor = sys.stderr.fileno()
    form = format_of(settings.format, descriptor, os.environ)
    factory: Callable[..., Any] = the_journal() if form is Format.JOURNAL else Lossy(descriptor)
    structlog.configure(
        processors=[with_request, structlog.processors.add_log_level, *_last(form)],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[settings.level]),
        logger_factory=factory,
        cache_logger_on_first_use=False,
    )


def _last(form: Format) -> tuple[structlog.typing.Processor, ...]:
    """What gives events their look; the journal has the time from the kernel."""
    match form:
        case Format.CONSOLE:
            stamp = structlog.processors.TimeStamper("%H:%M:%S", utc=False)
            colors = sys.stderr.isatty() and not os.environ.get("NO_COLOR")  # https://no-color.org
            return stamp, brief, printable, structlog.dev.ConsoleRenderer(colors=colors)
        case Format.JSON:
            stamp = structlog.processors.TimeStamper("iso", utc=True)
            return stamp, structlog.processors.format_exc_info, head_first, as_json
        case Format.JOURNAL:
            return structlog.processors.format_exc_info, as_entry
