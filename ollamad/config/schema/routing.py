"""`[routing]`: which child gets a request."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from ollamad.config.schema.kinds import Seconds


class ModelSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is asked for one model."""

    pin: bool = False
    """At least one copy is always loaded, and never unloaded for another model."""
    min_replicas: Annotated[int, Meta(ge=0, le=64)] = 0
    max_replicas: Annotated[int, Meta(ge=0, le=64)] = 0
    """0 for as many as there are children."""


class Routing(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which child gets a request, and how long requests wait for one."""

    policy: Annotated[
        Literal["cost", "least_inflight", "round_robin", "random", "sticky"],
        Meta(
            description=(
                'How a child is chosen. "cost": the one that is expected to answer first. The others are for comparison:'
                " they send at once, and let requests queue in the children."
            )
        ),
    ] = "cost"
    wait_max_s: Annotated[
        Seconds,
        Meta(
            description="How long a request waits for a slot before it gets 503; its X-Ollamad-Wait-Max header may say less."
        ),
    ] = 600.0
    client_header: Annotated[
        str,
        Meta(
            description=(
                "The header that tells clients apart who send no API key, so that each gets its share; else the address does."
                ' Behind nginx: "X-Real-IP".'
            )
        ),
    ] = "X-Ollamad-Client"
    affinity_slack: Annotated[
        int,
        Meta(
            ge=0,
            le=1000,
            description="A child that holds the beginning of a prompt is preferred while it has at most so many requests more than the least busy one.",
        ),
    ] = 4
    load_ahead: Annotated[
        bool,
        Meta(
            description="Load models on GPUs before they are asked for: one that had to go and is often wanted, a busy one's copy where there is room."
        ),
    ] = True
    state_dir: Annotated[
        str,
        Meta(
            description='Where learned speeds and sizes are kept. "auto": systemd\'s state directory, else ~/.local/state/ollamad; "" for nowhere.'
        ),
    ] = "auto"
    weights: Annotated[
        dict[str, Annotated[float, Meta(gt=0, le=1000)]],
        Meta(
            description="Children that are to get more or less than their measured speed earns: gpu1 = 0.5 for half as much."
        ),
    ] = {}
    models: Annotated[
        dict[str, ModelSettings],
        Meta(
            description=(
                'By model: [routing.models."llama3:8b"] with pin = true (always loaded, never evicted, as what'
                " models.preload names), min_replicas and max_replicas (how many children have it; 0 for no limit)."
            )
        ),
    ] = {}
