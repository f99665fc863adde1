"""How logs look: coloured columns on a terminal, one JSON object a line elsewhere; always on standard error."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Final

import msgspec
import structlog

from ollamad.config.schema import Log

_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_QUIET: Final = tuple(structlog.make_filtering_bound_logger(_LEVELS[name]) for name in ("info", "warning", "error"))
_ENCODER: Final = msgspec.json.Encoder(enc_hook=repr)


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


def as_json(_logger: object, _method: str, event: Mapping[str, Any]) -> bytes:
    """One event as a JSON object. An access log is written for every request: json.dumps takes 4 µs, this 0.3."""
    try:
        return _ENCODER.encode(event)
    except (TypeError, ValueError, OverflowError):  # a client's path may hold what is no Unicode
        return json.dumps(event, default=repr).encode()


def printable(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Texts without what a terminal would obey: paths, names of models and lines of children are strangers' words."""
    for name, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            event[name] = "".join(one if one.isprintable() else ascii(one)[1:-1] for one in value)
    return event


def tells_debug() -> bool:
    """Whether debug events are told: for those that cost something to put together."""
    return structlog.get_config()["wrapper_class"] not in _QUIET


def set_up(settings: Log) -> None:
    """Make every later log event look as the configuration says."""
    console = settings.format == "console" or (settings.format == "auto" and sys.stderr.isatty())
    last: list[structlog.typing.Processor] = (
        [
            structlog.processors.TimeStamper("%H:%M:%S", utc=False),
            printable,
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
        ]
        if console
        else [
            structlog.processors.TimeStamper("iso", utc=True),
            structlog.processors.format_exc_info,
            as_json,
        ]
    )
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, structlog.processors.add_log_level, *last],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[settings.level]),
        logger_factory=Lossy(sys.stderr.fileno()),
        cache_logger_on_first_use=False,
    )
