"""`[access]`: who may use the listeners."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from ollamad.config.schema.kinds import Count, Seconds


class Access(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """API keys, for a listener that others than this machine's users can reach."""

    keys_file: Annotated[
        str,
        Meta(
            description=(
                'The file of API keys, such as "/var/lib/ollamad/keys.toml"; every request then needs one of them.'
                ' "": no keys. ollamad makes and changes it (ollamactl key create); it holds hashes, and is its alone.'
            )
        ),
    ] = ""
    keys_max: Annotated[Count, Meta(description="Keys at once; each is a label of the metrics.")] = 1000
    look_interval_s: Annotated[
        Seconds,
        Meta(description="How often the key file and the TLS files are looked at: changed ones are taken into use."),
    ] = 5.0
