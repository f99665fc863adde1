"""Every key that exists, with its type, its limits, its default and a line of why.

This is the one place where a key is declared: `load` checks against it, `config.example.toml` and `ollamad check`
are drawn from it. Times are seconds (`_s`), sizes say their unit; each bound of the daemon is a key here.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

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


class Proxy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The address that clients use: a drop-in Ollama endpoint."""

    listen: Annotated[str, Meta(description="Where clients send requests; Ollama's own address by default.")] = (
        "127.0.0.1:11434"
    )
    allowed_hosts: Annotated[
        tuple[str, ...],
        Meta(
            description=(
                "Host names that clients may call us by, beside Ollama's own (IP addresses of this machine,"
                ' localhost, *.local, …). Name the one that your nginx passes on; "*" allows any.'
            )
        ),
    ] = ()
    body_max_bytes: Annotated[
        int,
        Meta(
            ge=1024,
            le=4 * 1024**3,
            description="A JSON request is kept whole until its answer begins, so that it can be sent again; at most this.",
        ),
    ] = 64 * 1024**2
    attempts_max: Annotated[
        int,
        Meta(
            ge=1,
            le=16,
            description="How often one request is sent, the first included, before its failure is told.",
        ),
    ] = 3
    ready_wait_s: Annotated[
        SecondsOrNone,
        Meta(
            description="How long a request waits for a child when none is ready (all restarting) before it gets 503."
        ),
    ] = 30.0
    waiting_max: Annotated[Count, Meta(description="How many requests may wait so; the next one gets 503 at once.")] = (
        512
    )
    connect_timeout_s: Annotated[
        Seconds,
        Meta(description="A child on this machine that does not accept within this is taken for dead."),
    ] = 5.0
    trusted_proxies: Annotated[
        tuple[str, ...],
        Meta(
            description=(
                "Addresses or networks of proxies before us: what they say of a client's address"
                " (X-Forwarded-For, Forwarded) is believed, others' is dropped."
            )
        ),
    ] = ("127.0.0.0/8", "::1/128")
    allowed_origins: Annotated[
        tuple[str, ...],
        Meta(
            description=(
                "Origins of web pages that may call us, beside Ollama's own (this machine's, desktop apps'); as"
                ' OLLAMA_ORIGINS: "https://chat.example.com", "chrome-extension://*", "*" for any.'
            )
        ),
    ] = ()
    connections_max: Annotated[
        Count,
        Meta(description="Clients connected at once, within the open files that the system allows; one more gets 503."),
    ] = 16_384
    header_max_bytes: Annotated[
        int,
        Meta(ge=1024, le=1024**2, description="A request's longest line: its first one, or a header field."),
    ] = 16_384
    header_timeout_s: Annotated[
        Seconds,
        Meta(description="A request's head must be here this long after its first byte, or the client is cut."),
    ] = 15.0
    keepalive_timeout_s: Annotated[
        Seconds, Meta(description="How long a client's connection may be without a request.")
    ] = 75.0
    body_timeout_s: Annotated[
        Seconds,
        Meta(
            description="A request's body may be silent for this long; one that is kept must be here by then, and a second later for every body_rate_min_bytes_s of it."
        ),
    ] = 30.0
    body_rate_min_bytes_s: Annotated[
        int, Meta(ge=1, le=1024**3, description="Slower than this, a body that is kept is given up.")
    ] = 4096
    bodies_max_bytes: Annotated[
        int,
        Meta(
            ge=1024,
            le=1024**4,
            description="All the bodies that are kept at once; a request that would be more gets 503.",
        ),
    ] = 1024**3
    linger_s: Annotated[
        SecondsOrNone,
        Meta(
            description="A request that is answered before its body is here: how long the rest is read, so that the client can read the answer. So long, too, is a client waited with that has closed its half."
        ),
    ] = 10.0
    stream_buffer_max_bytes: Annotated[
        int,
        Meta(
            ge=4096,
            le=1024**3,
            description="What a client has not taken yet; beyond it, reading from its child stops until it has.",
        ),
    ] = 65_536
    stream_idle_timeout_s: Annotated[
        SecondsOrNone,
        Meta(
            description="A response that has begun and then is silent for this long is taken for dead; 0: never. Ollama is silent while it writes a tool call."
        ),
    ] = 900.0
    client_stall_timeout_s: Annotated[
        Seconds, Meta(description="A client that takes nothing of its response for this long is cut.")
    ] = 120.0
    child_idle_connections_max: Annotated[
        Count, Meta(description="Connections to one child that are kept for the next request.")
    ] = 64
    child_idle_timeout_s: Annotated[Seconds, Meta(description="How long one is kept.")] = 60.0
    child_header_max_bytes: Annotated[
        int, Meta(ge=1024, le=1024**2, description="The head of a child's response; one that is larger is refused.")
    ] = 65_536
    shutdown_grace_s: Annotated[
        SecondsOrNone,
        Meta(description="At stop, streams may go on this long; then they end with an error object."),
    ] = 2.0


class Status(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The address that operators and monitors use."""

    listen: Annotated[
        str, Meta(description="/ (dashboard), /status, /metrics, /healthz and /readyz; never put it on the internet.")
    ] = "127.0.0.1:11480"
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


class Control(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The unix socket that ollamactl uses. Who may connect may look; who may change things is said here."""

    socket: Annotated[
        str,
        Meta(
            min_length=1,
            description=(
                '"auto": $OLLAMAD_SOCKET, else /run/ollamad/control.sock where that can be written, else below'
                " $XDG_RUNTIME_DIR, else below /tmp/ollamad-UID. ollamactl looks in the same places."
            ),
        ),
    ] = "auto"
    owner: Annotated[
        str, Meta(description='The user who owns the socket; "" is the one that ollamad runs as. Another needs root.')
    ] = ""
    group: Annotated[
        str, Meta(description='The group whose members may connect, and look; "" is the group that ollamad runs as.')
    ] = ""
    mode: Annotated[
        str,
        Meta(
            pattern=r"^0?[0-7]{3}$",
            extra={"expected": 'a mode in octal, in quotes, such as "0660"'},
            description="The socket's mode; to connect is to write to it. Never writable for all.",
        ),
    ] = "0660"
    operators: Annotated[
        tuple[Annotated[str, Meta(min_length=1)], ...],
        Meta(description="Users, by name or number, who may change things, beside root, the owner and ollamad's own."),
    ] = ()
    group_may_change: Annotated[
        bool, Meta(description="Whether all who may connect may change things too, not look only.")
    ] = False
    operations_kept: Annotated[
        int,
        Meta(
            ge=1,
            le=1000,
            description="Long operations that are over and can still be asked about; the oldest go first.",
        ),
    ] = 32
    progress_kept: Annotated[
        int,
        Meta(ge=10, le=100_000, description="Steps of one operation's progress that are kept; the oldest go first."),
    ] = 1000


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


class Supervision(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a child that died is started again, and how it is looked after."""

    backoff_initial_s: Annotated[
        Seconds,
        Meta(description="Wait before the second restart in a row; the first is at once, then it doubles."),
    ] = 0.5
    backoff_max_s: Annotated[Seconds, Meta(description="It never waits longer than this.")] = 60.0
    backoff_jitter: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description="Share of each wait that is random, so that children don't restart in step.",
        ),
    ] = 0.25
    healthy_after_s: Annotated[
        Seconds, Meta(description="Ready for this long, a child's earlier deaths are forgotten.")
    ] = 60.0
    crash_loop_deaths: Annotated[
        int,
        Meta(
            ge=1,
            le=1000,
            description="A child that dies this often within crash_loop_window_s is failed: its siblings serve, it is left alone.",
        ),
    ] = 5
    crash_loop_window_s: Annotated[
        Seconds, Meta(description="How far back deaths are counted for crash_loop_deaths.")
    ] = 120.0
    failed_retry_s: Annotated[
        SecondsOrNone,
        Meta(
            description="A failed child is tried again this long after; 0 for never, until it is reset by `ollamactl reset`."
        ),
    ] = 300.0
    drain_timeout_s: Annotated[
        Seconds,
        Meta(description="A child that drains may finish its streams for this long; then they are cut."),
    ] = 300.0
    probe_interval_s: Annotated[
        Seconds, Meta(description="How often a starting child is asked whether it is ready.")
    ] = 0.05
    probe_timeout_s: Annotated[Seconds, Meta(description="How long one such question may take.")] = 5.0
    misses_max: Annotated[
        int,
        Meta(
            ge=1,
            le=1000,
            description="A ready child that leaves this many probes in a row unanswered is ended and started again.",
        ),
    ] = 3
    resident_interval_s: Annotated[
        Seconds,
        Meta(
            description="How often a busy child is asked whether it lives and what it has loaded; old Ollamas can crash when asked faster than 1 s."
        ),
    ] = 1.0
    idle_interval_s: Annotated[
        Seconds, Meta(description="The same for a child that has had nothing to do for a while.")
    ] = 5.0
    stream_stall_s: Annotated[
        Seconds,
        Meta(
            description="A stream that has begun and is silent for this long, or ten times the model's usual pause, is stuck: its runner is killed."
        ),
    ] = 60.0
    first_byte_stall_s: Annotated[
        Seconds,
        Meta(
            description="So is a request for a loaded model that has not begun for this long, while the GPU does nothing."
        ),
    ] = 300.0
    busy_stall_s: Annotated[
        Seconds,
        Meta(
            description="The same while the GPU is busy or unknown: a long prompt, or a long answer without streaming, is no hang."
        ),
    ] = 3600.0
    load_stall_s: Annotated[
        Seconds, Meta(description="A load that takes longer is stuck; Ollama gives one up by itself at load_timeout_s.")
    ] = 900.0
    stopping_stall_s: Annotated[
        Seconds, Meta(description='A model that nobody uses and that is "Stopping..." for this long is stuck.')
    ] = 60.0
    ps_stall_s: Annotated[
        Seconds, Meta(description="A child whose /api/ps is not answered for this long is stuck.")
    ] = 60.0
    runner_grace_s: Annotated[
        Seconds,
        Meta(description="After its runner was killed, a child has this long to recover before it is killed itself."),
    ] = 10.0
    stuck_window_s: Annotated[
        Seconds,
        Meta(description="Stuck twice within this, a child is killed; this is also how long that is remembered."),
    ] = 1800.0
    wedges_max: Annotated[
        int,
        Meta(
            ge=1,
            le=100,
            description="Killed this often for being stuck within stuck_window_s, a child is kept down for quarantine_s.",
        ),
    ] = 3
    quarantine_s: Annotated[
        Seconds, Meta(description="How long a child that is stuck again and again is kept from its GPU.")
    ] = 600.0
    vram_wait_s: Annotated[
        SecondsOrNone,
        Meta(
            description="After a death the next start waits this long at most for the driver to show the GPU's memory freed."
        ),
    ] = 10.0
    rolling_ready_min: Annotated[
        int,
        Meta(ge=0, le=64, description="A rolling restart never leaves fewer children ready than this."),
    ] = 1
    rolling_reload: Annotated[
        bool, Meta(description="A rolling restart loads again what a child had loaded, before it goes on to the next.")
    ] = True
    lines_kept: Annotated[
        int,
        Meta(ge=0, le=100_000, description="How many of a child's last output lines `ollamactl logs` can show."),
    ] = 500


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


class Log(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Logs go to standard error."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description='"debug" shows all that the children print, and each routing decision.'),
    ] = "info"
    format: Annotated[
        Literal["auto", "console", "json"],
        Meta(description='"auto": console on a terminal, else one JSON object a line.'),
    ] = "auto"


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole, checked configuration. Nothing in it changes while the daemon runs."""

    proxy: Proxy = Proxy()
    status: Status = Status()
    control: Control = Control()
    ollama: Ollama = Ollama()
    supervision: Supervision = Supervision()
    gpus: Gpus = Gpus()
    models: Models = Models()
    routing: Routing = Routing()
    log: Log = Log()
