"""`[gpus]`: which GPUs get a child."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from ollamad.config.schema.kinds import Seconds, SecondsOrNone, Selector


class Gpus(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which GPUs get a child. A selector is an index, a UUID ("GPU-…", may be cut short) or a name pattern ("*A100*")."""

    include: Annotated[
        Literal["all"] | tuple[Selector, ...],
        Meta(description='"all", or a list of selectors: each GPU gets a child of its own.'),
    ] = "all"
    exclude: Annotated[tuple[Selector, ...], Meta(description="Selectors of GPUs to leave alone.")] = ()
    groups: Annotated[
        tuple[Annotated[tuple[Selector, ...], Meta(min_length=1)], ...],
        Meta(description="[[2, 3]]: one wide child over GPUs 2 and 3, for models that fit on no single one."),
    ] = ()
    cpu_children: Annotated[
        Literal["auto"] | Annotated[int, Meta(ge=0, le=64)],
        Meta(description='Children without a GPU. "auto": one where no GPU can be used, else none.'),
    ] = "auto"
    require_gpu: Annotated[
        bool, Meta(description="Refuse to start where no GPU can be used, instead of serving from the CPU.")
    ] = False
    sample_interval_s: Annotated[Seconds, Meta(description="How often memory and utilization are read.")] = 1.0
    call_timeout_s: Annotated[
        Seconds,
        Meta(description="A driver that does not answer within this is told and left alone; a lost GPU can hang it."),
    ] = 5.0
    rediscover_interval_s: Annotated[
        Seconds,
        Meta(
            description=(
                "How often to look which GPUs came or went; at least every 5 s while one is not well. It starts the"
                " driver's library afresh, which wakes GPUs that sleep."
            )
        ),
    ] = 60.0
    unanswered_max_s: Annotated[
        SecondsOrNone,
        Meta(description="A GPU that leaves calls unanswered for this long is quarantined; a stall needs seconds."),
    ] = 10.0
    recover_after_s: Annotated[
        SecondsOrNone,
        Meta(
            description="Good readings for this long end a quarantine; each that follows in a row lasts twice as long."
        ),
    ] = 30.0
    recover_max_s: Annotated[
        SecondsOrNone,
        Meta(
            description="No quarantine lasts longer than this; well for this long, a GPU's earlier ones are forgotten."
        ),
    ] = 1800.0
