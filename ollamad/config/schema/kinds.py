"""The kinds of values that keys take, where several keys take the same."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

Selector = Annotated[int, Meta(ge=0, le=65_535)] | Annotated[str, Meta(min_length=1)]
"""A GPU: its index, its UUID (`GPU-…`, may be cut short), or a pattern of its name (`*A100*`)."""

Seconds = Annotated[float, Meta(gt=0, le=86_400)]
SecondsOrNone = Annotated[float, Meta(ge=0, le=86_400)]
Count = Annotated[int, Meta(ge=1, le=1_000_000)]
Port = Annotated[int, Meta(ge=1024, le=65_000)]
MiB = Annotated[int, Meta(ge=0, le=1_048_576)]
GoDuration = Annotated[
    str,
    Meta(
        pattern=r"^-?[0-9]+$|^-?([0-9]+(\.[0-9]+)?(ns|us|ms|s|m|h))+$",
        extra={"expected": 'a time such as "90s", "5m" or "1h30m", in quotes; "-1" for ever, "0" not at all'},
    ),
]

ModelName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=600,
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.:/-]*$",
    ),
]
ModelNames = Annotated[tuple[ModelName, ...], Meta(extra={"expected": 'a list of models, such as ["llama3.2:3b"]'})]
RegistryHosts = Annotated[
    tuple[
        Annotated[str, Meta(min_length=1, max_length=350, pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.:-]*$")],
        ...,
    ],
    Meta(extra={"expected": 'a list of hosts, each with its port if it has one, such as ["registry.lan:5000"]'}),
]
