"""`[log]`."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct


class Log(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Logs go to standard error, or to the journal by its own protocol."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description='"debug" shows all that the children print, and each routing decision.'),
    ] = "info"
    format: Annotated[
        Literal["auto", "console", "json", "journal"],
        Meta(
            description=(
                '"auto": console on a terminal, journal where standard error is the journal (its fields: `journalctl'
                " OLLAMAD_CHILD=gpu1`), else one JSON object a line."
            )
        ),
    ] = "auto"
