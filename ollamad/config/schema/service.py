"""`[service]`: under a service manager, such as systemd."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from ollamad.config.schema.kinds import SecondsOrNone


class Service(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What systemd is told; without effect where ollamad is started by hand."""

    ready_wait_s: Annotated[
        SecondsOrNone,
        Meta(
            description="READY is said once a child takes requests, or after this: clients that come earlier wait anyway."
        ),
    ] = 30.0
