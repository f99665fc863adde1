"""`[status]`: the listener for operators and monitors."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct


class Status(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The address that operators and monitors use."""

    listen: Annotated[
        str, Meta(description="/ (dashboard), /status, /metrics, /healthz and /readyz; never put it on the internet.")
    ] = "127.0.0.1:11480"
    agent_listen: Annotated[
        str,
        Meta(
            description="Tells HAProxy's agent-check how much more this host can take, such as 127.0.0.1:11481;"
            ' "" for none.'
        ),
    ] = ""
    allow_unauthenticated: Annotated[
        bool,
        Meta(
            description="Whether whoever reaches an address beyond this machine may look without a key, as Prometheus may have to."
        ),
    ] = False
    tls_certificate: Annotated[
        str,
        Meta(
            description="A certificate with its chain, PEM: monitors then use https. Changed files are taken into use."
        ),
    ] = ""
    tls_key: Annotated[str, Meta(description="Its private key, PEM, without a passphrase, not readable for all.")] = ""
    connections_max: Annotated[
        int, Meta(ge=1, le=1_000_000, description="Monitors and browsers connected at once; one more is cut.")
    ] = 512
    refresh_interval_s: Annotated[
        float,
        Meta(ge=0.1, le=60.0, description="How often the dashboard is told anew; one rendering serves all who look."),
    ] = 1.0
    history_s: Annotated[
        float,
        Meta(ge=10.0, le=3600.0, description="How much of the GPUs' utilization the dashboard draws."),
    ] = 180.0
    viewers_max: Annotated[
        int, Meta(ge=0, le=10_000, description="How many may have the dashboard open; one more is told 503.")
    ] = 100
    requests_kept: Annotated[
        int, Meta(ge=0, le=10_000, description="How many of the last requests the dashboard shows.")
    ] = 50
    events_kept: Annotated[
        int, Meta(ge=0, le=10_000, description="How many of the last events of children and GPUs it shows.")
    ] = 50
    models_max: Annotated[
        int,
        Meta(
            ge=0,
            le=10_000,
            description='Models with metrics of their own, in the order of their first use; all others count as "other".',
        ),
    ] = 100
