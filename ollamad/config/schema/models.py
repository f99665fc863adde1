"""`[models]`: where models live, and which are wanted."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from ollamad.config.schema.kinds import Count, ModelNames, RegistryHosts, Seconds, SecondsOrNone


class Models(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where models live, how they come to every child, and which must be there."""

    store: Annotated[
        Literal["shared", "per-child"],
        Meta(
            description='"shared": all children use one directory. "per-child": each has its own, say on a disk of its own, and they are kept equal.'
        ),
    ] = "shared"
    path: Annotated[
        str,
        Meta(
            min_length=1,
            description="The shared store (OLLAMA_MODELS); by default the one that a hand-started Ollama uses.",
        ),
    ] = "~/.ollama/models"
    per_child_path: Annotated[
        str,
        Meta(
            min_length=1,
            description=(
                'A child\'s own store; {child} stands for its name ("gpu0"), {path} for models.path. On the file'
                " system of models.path nothing is copied: blobs are hard links."
            ),
        ),
    ] = "{path}/children/{child}"
    ensure: Annotated[
        ModelNames,
        Meta(description="Models that are pulled at start where they are missing, in the background."),
    ] = ()
    preload: Annotated[
        ModelNames,
        Meta(description="Models that are loaded at start, and again whenever no child has them loaded."),
    ] = ()
    insecure_registries: Annotated[
        RegistryHosts,
        Meta(
            description="Registries that are spoken to without TLS (Ollama's `insecure`), whoever asks for a pull: whoever is on the way can give other models."
        ),
    ] = ()
    conflicts: Annotated[
        Literal["newest", "primary"],
        Meta(
            description="Which of two versions wins, when one model was changed in two stores behind ollamad's back: the newest, or that of the first child."
        ),
    ] = "newest"
    reconcile_interval_s: Annotated[
        Seconds, Meta(description="How often per-child stores are compared, to find what was pulled behind our back.")
    ] = 60.0
    settle_s: Annotated[
        SecondsOrNone,
        Meta(description="A manifest younger than this that can't be read is being written; older, it is broken."),
    ] = 5.0
    remember_deleted_days: Annotated[
        int,
        Meta(
            ge=1,
            le=3650,
            description="A store that was away this long or less can't bring back what was deleted meanwhile.",
        ),
    ] = 90
    prune_grace_s: Annotated[
        Annotated[float, Meta(ge=0, le=31_536_000)],
        Meta(description="A prune spares unneeded files that changed within this: a model may be made of them yet."),
    ] = 3600.0
    disk_free_min_bytes: Annotated[
        int,
        Meta(
            ge=0,
            le=2**50,
            description=(
                "Where a store's disk has less room, no model is pulled, made, copied or uploaded: Ollama writes manifests"
                " in place, and a full disk cuts them off."
            ),
        ),
    ] = 268_435_456
    pulls_max: Annotated[Count, Meta(description="How many models may be pulled at once; the next gets 503.")] = 16
    pull_attempts_max: Annotated[
        int,
        Meta(ge=1, le=100, description="How often a pull is taken up again when its child dies under it."),
    ] = 5
    retry_initial_s: Annotated[
        Seconds, Meta(description="Wait after a failed pull of an ensured model; it doubles each time.")
    ] = 5.0
    retry_max_s: Annotated[Seconds, Meta(description="It never waits longer than this.")] = 3600.0
    preload_interval_s: Annotated[
        Seconds, Meta(description="How often it is seen to that preloaded models are still loaded.")
    ] = 10.0
    read_timeout_s: Annotated[
        Seconds, Meta(description="A child that does not list its models within this is left out of lists of all.")
    ] = 10.0
    workers: Annotated[int, Meta(ge=1, le=64, description="Threads that link, copy and check blobs.")] = 2
