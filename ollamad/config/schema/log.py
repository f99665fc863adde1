"""`[log]`."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct


class Log(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Logs go to standard error."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description='"debug" shows all that the children print, and each routing decision.'),
    ] = "info"
    format: Annotated[
        Literal["auto", "console", "json"],
        Meta(description='"auto": console on a terminal, else one JSON object a line.'),
    ] = "auto"
