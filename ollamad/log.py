"""How logs look: coloured columns on a terminal, one JSON object a line elsewhere; always on standard error."""

from __future__ import annotations

import sys
from typing import Final

import structlog

from ollamad.config.schema import Log

_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def set_up(settings: Log) -> None:
    """Make every later log event look as the configuration says."""
    console = settings.format == "console" or (settings.format == "auto" and sys.stderr.isatty())
    last: list[structlog.typing.Processor] = (
        [
            structlog.processors.TimeStamper("%H:%M:%S", utc=False),
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
        ]
        if console
        else [
            structlog.processors.TimeStamper("iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ]
    )
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, structlog.processors.add_log_level, *last],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[settings.level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
