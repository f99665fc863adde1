"""`[log]`."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from ollamad.config.schema.kinds import Seconds


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
    access: Annotated[
        bool,
        Meta(description="A line for each request that ended: who asked, what for, who answered, where its time went."),
    ] = True
    access_share: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description="Share of the ordinary ones that are told, at random; those that failed or were slow always are.",
        ),
    ] = 1.0
    access_slow_s: Annotated[
        Seconds,
        Meta(description="A request that took so long to its first byte, or had to wait so long, counts as slow."),
    ] = 10.0
