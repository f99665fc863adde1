"""`[ollama]`: how each child is run."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from ollamad.config.schema.kinds import Count, GoDuration, MiB, Port, Seconds


class Ollama(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How each `ollama serve` is run; the same for all of them, or one model would behave differently by child."""

    binary: Annotated[
        str,
        Meta(min_length=1, description="The ollama program: a path, or a name that is looked up on PATH."),
    ] = "ollama"
    home: Annotated[
        str,
        Meta(
            min_length=1,
            description="HOME of the children, shared: it holds the key that ollama.com knows them by.",
        ),
    ] = "~"
    base_port: Annotated[
        Port, Meta(description="Children listen on loopback from this port up; ports in use are passed over.")
    ] = 11_500
    num_parallel: Annotated[
        int,
        Meta(
            ge=1,
            le=64,
            description="Slots per loaded model (OLLAMA_NUM_PARALLEL); each has its own context in VRAM.",
        ),
    ] = 1
    context_length: Annotated[
        Literal["auto"] | Annotated[int, Meta(ge=4, le=10_000_000)],
        Meta(
            description=(
                'Tokens per slot (OLLAMA_CONTEXT_LENGTH). "auto": 32768 where the smallest child has 23 GiB of VRAM'
                " or more, else 4096. Left to itself, Ollama gives each child a length by its own VRAM."
            )
        ),
    ] = "auto"
    max_loaded_models: Annotated[
        int, Meta(ge=1, le=64, description="Models that one child holds at once (OLLAMA_MAX_LOADED_MODELS).")
    ] = 3
    max_queue: Annotated[
        int,
        Meta(ge=1, le=100_000, description="Requests that one child queues before 503 (OLLAMA_MAX_QUEUE)."),
    ] = 512
    keep_alive: Annotated[
        GoDuration,
        Meta(
            description='How long an idle model stays loaded (OLLAMA_KEEP_ALIVE): "5m", "-1" for ever, "0" not at all.'
        ),
    ] = "5m"
    load_timeout_s: Annotated[
        Count,
        Meta(description="Ollama gives a load up after this long without progress (OLLAMA_LOAD_TIMEOUT)."),
    ] = 300
    prompt_cache_mib: Annotated[
        MiB,
        Meta(
            description=(
                "RAM of each loaded model's prompt cache (LLAMA_ARG_CACHE_RAM). llama-server takes 8192 MiB a model"
                " when nobody says otherwise: 8 GPUs with 3 models each could ask for 192 GiB."
            )
        ),
    ] = 1024
    fit_margin_mib: Annotated[
        MiB,
        Meta(description="VRAM that a load leaves free (LLAMA_ARG_FIT_TARGET); OLLAMA_GPU_OVERHEAD does nothing."),
    ] = 1024
    start_timeout_s: Annotated[
        Seconds,
        Meta(description="From spawn to ready; GPU discovery can take 30 s a library, so be patient."),
    ] = 120.0
    stop_timeout_s: Annotated[
        Seconds, Meta(description="From TERM to KILL. Ollama needs about 1.5 s to end its runners.")
    ] = 2.5
    env: Annotated[
        dict[str, str],
        Meta(description="More environment for every child. Nothing else leaks from ollamad's own."),
    ] = {}
