"""What the tests of the configuration share: a home, short forms of `load`, and values that each key takes."""

from __future__ import annotations

import atexit
import shutil
import tempfile
import tomllib
from collections.abc import Mapping
from typing import Final

import msgspec
import pytest
from hypothesis import strategies as st

from ollamad.config import Config, Loaded, Setting, load
from ollamad.config.checks import FIXED_VARIABLES, OWNED_VARIABLES
from ollamad.config.load import key_types
from ollamad.config.secrets import is_secret
from ollamad.errors import ConfigError, Problem

HOME: Final = tempfile.mkdtemp(prefix="ollamad-home-")
atexit.register(shutil.rmtree, HOME, ignore_errors=True)
"""A directory that whoever runs the tests may write to; nothing is made in it."""

KEYS: Final = tuple(key_types())
DEFAULTS: Final[Mapping[str, object]] = {
    f"{table}.{key}": value
    for table, content in msgspec.to_builtins(Config()).items()
    for key, value in content.items()
}


def loaded(*settings: tuple[str, object]) -> Loaded:
    return load([Setting(key, value, "test") for key, value in settings], home=HOME)


def outcome(*settings: tuple[str, object]) -> Loaded | ConfigError:
    try:
        return loaded(*settings)
    except ConfigError as error:
        return error


def problems(*settings: tuple[str, object]) -> tuple[Problem, ...]:
    with pytest.raises(ConfigError) as caught:
        loaded(*settings)
    return caught.value.problems


def settings_of(text: str) -> list[tuple[str, object]]:
    tables = tomllib.loads(text)
    return [(f"{table}.{key}", value) for table, content in tables.items() for key, value in content.items()]


TEXTS: Final = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
PATHS: Final = st.from_regex(r"[a-z .'\"é]{1,8}(/[a-z]{1,4}){0,2}", fullmatch=True)
SECONDS: Final = st.floats(0.001, 9.0) | st.integers(1, 9)
COUNTS: Final = st.integers(1, 1_000_000)
SELECTORS: Final = st.integers(0, 15) | st.from_regex(r"GPU-[0-9a-f]{4,8}|\*[A-Z][0-9]{2,3}\*", fullmatch=True)
VARIABLES: Final = st.from_regex(r"[A-Za-z_. é-]{1,8}", fullmatch=True).filter(
    lambda name: name not in {*OWNED_VARIABLES, *FIXED_VARIABLES} and not is_secret(name)
)

GOOD: Final[Mapping[str, st.SearchStrategy[object]]] = {
    "proxy.listen": st.integers(1, 30_000).map(lambda port: f"127.0.0.1:{port}"),
    "proxy.allow_unauthenticated": st.sampled_from([False]),
    "proxy.tls_certificate": st.just(""),
    "proxy.tls_key": st.just(""),
    "proxy.connections_per_client_max": COUNTS,
    "proxy.requests_per_client_per_minute": st.integers(0, 1_000_000),
    "proxy.header_fields_max": st.integers(16, 10_000),
    "access.keys_file": st.sampled_from(["", "/etc/ollamad/keys.toml", "~/keys.toml"]),
    "access.keys_max": COUNTS,
    "access.look_interval_s": SECONDS,
    "status.connections_max": COUNTS,
    "status.allow_unauthenticated": st.booleans(),
    "status.tls_certificate": st.just(""),
    "status.tls_key": st.just(""),
    "proxy.allowed_hosts": st.lists(TEXTS, max_size=3),
    "proxy.body_max_bytes": st.integers(1024, 4 * 1024**3),
    "proxy.attempts_max": st.integers(1, 16),
    "proxy.ready_wait_s": SECONDS | st.just(0),
    "proxy.waiting_max": COUNTS,
    "proxy.connect_timeout_s": SECONDS,
    "proxy.trusted_proxies": st.lists(st.sampled_from(["10.0.0.0/8", "::1", "192.0.2.7", "10.1.2.3/8"]), max_size=3),
    "proxy.allowed_origins": st.lists(
        st.sampled_from(["*", "https://chat.example.com", "app://*", "https://*.example.org"]), max_size=3
    ),
    "proxy.connections_max": COUNTS,
    "proxy.header_max_bytes": st.integers(1024, 1024**2),
    "proxy.header_timeout_s": SECONDS,
    "proxy.keepalive_timeout_s": SECONDS,
    "proxy.body_timeout_s": SECONDS,
    "proxy.body_rate_min_bytes_s": st.integers(1, 1024**3),
    "proxy.bodies_max_bytes": st.integers(1024, 1024**4),
    "proxy.linger_s": SECONDS | st.just(0),
    "proxy.stream_buffer_max_bytes": st.integers(4096, 1024**3),
    "proxy.stream_idle_timeout_s": SECONDS | st.just(0),
    "proxy.client_stall_timeout_s": SECONDS,
    "proxy.child_idle_connections_max": COUNTS,
    "proxy.child_idle_timeout_s": SECONDS,
    "proxy.child_header_max_bytes": st.integers(1024, 1024**2),
    "proxy.shutdown_notice_s": SECONDS | st.just(0.0),
    "proxy.shutdown_grace_s": SECONDS | st.just(0.0),
    "status.listen": st.integers(30_001, 65_535).map(lambda port: f"[::1]:{port}"),
    "status.agent_listen": st.just("") | st.integers(1, 30_000).map(lambda port: f"127.0.0.2:{port}"),
    "status.refresh_interval_s": st.floats(0.1, 60),
    "status.history_s": st.floats(10, 3600),
    "status.viewers_max": st.integers(0, 10_000),
    "status.requests_kept": st.integers(0, 10_000),
    "status.events_kept": st.integers(0, 10_000),
    "status.models_max": st.integers(0, 10_000),
    "control.socket": PATHS.map(lambda path: f"{HOME}/{path}") | st.just("auto"),
    "control.owner": st.sampled_from(["", "root", "0", "4242"]),
    "control.group": st.sampled_from(["", "root", "0", "4242"]),
    "control.mode": st.sampled_from(["0660", "600", "0664"]),
    "control.operators": st.lists(st.sampled_from(["root", "1000"]), max_size=2),
    "control.group_may_change": st.booleans(),
    "control.operations_kept": st.integers(1, 1000),
    "control.progress_kept": st.integers(10, 100_000),
    "ollama.binary": TEXTS.filter(bool),
    "ollama.home": PATHS.map(lambda path: f"{HOME}/{path}") | st.just("~"),
    "ollama.base_port": st.integers(1024, 65_000),
    "ollama.num_parallel": st.integers(1, 64),
    "ollama.context_length": st.just("auto") | st.integers(4, 10_000_000),
    "ollama.max_loaded_models": st.integers(1, 64),
    "ollama.max_queue": st.integers(1, 100_000),
    "ollama.keep_alive": st.sampled_from(["5m", "-1", "0", "1h30m", "1.5h", "-2ms"]),
    "ollama.load_timeout_s": COUNTS,
    "ollama.prompt_cache_mib": st.integers(0, 1_048_576),
    "ollama.fit_margin_mib": st.integers(0, 1_048_576),
    "ollama.start_timeout_s": SECONDS,
    "ollama.stop_timeout_s": SECONDS,
    "ollama.env": st.dictionaries(VARIABLES, TEXTS, max_size=3),
    "supervision.backoff_initial_s": SECONDS,
    "supervision.backoff_max_s": st.floats(9.0, 86_400.0),
    "supervision.backoff_jitter": st.floats(0, 1),
    "supervision.healthy_after_s": SECONDS,
    "supervision.crash_loop_deaths": st.integers(1, 1000),
    "supervision.failed_retry_s": SECONDS | st.just(0.0),
    "supervision.vram_wait_s": SECONDS | st.just(0.0),
    "supervision.wedges_max": st.integers(1, 100),
    "supervision.rolling_ready_min": st.integers(0, 64),
    "supervision.rolling_reload": st.booleans(),
    **dict.fromkeys(
        (
            f"supervision.{key}"
            for key in (
                "crash_loop_window_s",
                "drain_timeout_s",
                "idle_interval_s",
                "stream_stall_s",
                "first_byte_stall_s",
                "busy_stall_s",
                "load_stall_s",
                "stopping_stall_s",
                "ps_stall_s",
                "runner_grace_s",
                "stuck_window_s",
                "quarantine_s",
            )
        ),
        SECONDS,
    ),
    "supervision.probe_interval_s": SECONDS,
    "supervision.probe_timeout_s": SECONDS,
    "supervision.resident_interval_s": SECONDS,
    "supervision.misses_max": st.integers(1, 1000),
    "supervision.move_after_misses": st.integers(0, 1000),
    "supervision.lines_kept": st.integers(0, 10_000),
    "gpus.include": st.just("all") | st.lists(SELECTORS, unique=True, max_size=3),
    "gpus.exclude": st.lists(st.integers(16, 31), unique=True, max_size=3),
    "gpus.groups": st.lists(SELECTORS, unique=True, max_size=4).map(lambda found: [[one] for one in found]),
    "gpus.cpu_children": st.sampled_from(["auto", 0]),
    "gpus.require_gpu": st.booleans(),
    "gpus.sample_interval_s": SECONDS,
    "gpus.call_timeout_s": SECONDS,
    "gpus.rediscover_interval_s": SECONDS,
    "gpus.unanswered_max_s": SECONDS | st.just(0),
    "gpus.recover_after_s": SECONDS | st.just(0),
    "gpus.recover_max_s": SECONDS | st.just(0),
    "models.store": st.sampled_from(["shared", "per-child"]),
    "models.path": PATHS.map(lambda path: f"~/{path}"),
    "models.per_child_path": PATHS.map(lambda path: f"~/{path}/{{child}}") | st.just("{path}/{child}"),
    "models.ensure": st.lists(st.sampled_from(["llama3.2:3b", "hf.co/me/x:Q4"]), max_size=2),
    "models.preload": st.lists(st.sampled_from(["llama3.2:3b", "hf.co/me/x:Q4"]), max_size=2),
    "models.insecure_registries": st.lists(st.sampled_from(["registry.lan:5000", "10.0.0.7:5000"]), max_size=2),
    "models.conflicts": st.sampled_from(["newest", "primary"]),
    "models.reconcile_interval_s": SECONDS,
    "models.settle_s": SECONDS | st.just(0),
    "models.remember_deleted_days": st.integers(1, 3650),
    "models.prune_grace_s": SECONDS | st.just(0),
    "models.disk_free_min_bytes": st.integers(0, 2**50),
    "models.pulls_max": COUNTS,
    "models.pull_attempts_max": st.integers(1, 100),
    "models.retry_initial_s": SECONDS,
    "models.retry_max_s": st.integers(9, 9_000),
    "models.preload_interval_s": SECONDS,
    "models.read_timeout_s": SECONDS,
    "models.workers": st.integers(1, 64),
    "routing.policy": st.sampled_from(["cost", "least_inflight", "round_robin", "random", "sticky"]),
    "routing.wait_max_s": SECONDS,
    "routing.client_header": TEXTS,
    "routing.affinity_slack": st.integers(0, 1000),
    "routing.load_ahead": st.booleans(),
    "routing.state_dir": st.sampled_from(["auto", "", "~/state"]),
    "routing.weights": st.dictionaries(TEXTS, st.floats(0.1, 10.0), max_size=3),
    "routing.models": st.dictionaries(
        TEXTS,
        st.fixed_dictionaries(
            {
                "pin": st.booleans(),
                "min_replicas": st.integers(0, 2),
                "max_replicas": st.just(0) | st.integers(2, 4),
            }
        ),
        max_size=2,
    ),
    "log.level": st.sampled_from(["debug", "info", "warning", "error"]),
    "log.format": st.sampled_from(["auto", "console", "json", "journal"]),
    "service.ready_wait_s": SECONDS | st.just(0),
    "log.access": st.booleans(),
    "log.access_share": st.floats(0, 1),
    "log.access_slow_s": SECONDS,
}
"""Per key, values that it takes whatever the other keys say."""

CONFIGURATIONS: Final = st.fixed_dictionaries({}, optional=dict(GOOD)).map(lambda chosen: list(chosen.items()))

BAD: Final[tuple[tuple[str, object, str], ...]] = (
    ("routing.policy", "costs", 'expected "cost" or "least_inflight"'),
    ("routing.weights", {"gpu0": 0}, "expected float > 0"),
    ("routing.models", {"m": {"pinned": True}}, "object contains unknown field pinned"),
    ("routing.models", {"m": {"min_replicas": 3, "max_replicas": 2}}, "is less than the 3 that are always wanted"),
    ("routing.models", {"m": {"min_replicas": -1}}, "expected int >= 0"),
    ("proxy.listen", "11434", 'expected "HOST:PORT", such as "127.0.0.1:11434"'),
    ("proxy.listen", 11434, "expected text in quotes, got a whole number"),
    ("proxy.allowed_hosts", "ollama.example", "expected a list, got text in quotes"),
    ("proxy.body_max_bytes", 1023, "expected int >= 1024"),
    ("proxy.attempts_max", 17, "expected int <= 16"),
    ("proxy.ready_wait_s", -0.5, "expected float >= 0"),
    ("proxy.ready_wait_s", float("nan"), "expected float >= 0"),
    ("proxy.ready_wait_s", float("inf"), "expected float <= 86400"),
    ("proxy.ready_wait_s", "30s", "expected a number, got text in quotes"),
    ("proxy.waiting_max", 2.0, "expected a whole number, got a number"),
    ("proxy.connect_timeout_s", 0, "expected float > 0"),
    ("status.listen", "::1:80", 'an IPv6 address stands in brackets: "[::1]:11434"'),
    ("control.socket", "control.sock", 'must be "auto", an absolute path, or start with ~'),
    ("control.socket", "/a\0b", "holds a NUL character"),
    ("control.socket", f"/run/{'x' * 103}", "is 108 bytes long; the path of a unix socket can have 107"),
    ("control.owner", "no such one", "there is no such user here"),
    ("control.group", "no such one", "there is no such group here"),
    ("control.group", "9" * 10, "there is no such group here"),
    ("control.mode", "0666", "would let every user connect; set control.group instead"),
    ("control.mode", "660x", 'expected a mode in octal, in quotes, such as "0660"'),
    ("control.operators", ["root", "no such one"], "there is no such user here"),
    ("control.progress_kept", 9, "expected int >= 10"),
    ("ollama.binary", "", "expected str of length >= 1"),
    ("ollama.base_port", 1023, "expected int >= 1024"),
    ("ollama.num_parallel", 0, "expected int >= 1"),
    ("ollama.num_parallel", 10**50, "expected int <= 64"),
    ("ollama.context_length", 3, "expected int >= 4"),
    ("ollama.context_length", "atuo", 'expected "auto" or a whole number, did you mean "auto"?'),
    ("ollama.keep_alive", "5 minutes", 'expected a time such as "90s"'),
    ("ollama.keep_alive", 300, 'expected a time such as "90s"'),
    ("ollama.env", {"CUDA_CACHE_PATH": 1}, "expected text in quotes as the value of"),
    ("supervision.backoff_jitter", 1.01, "expected float <= 1"),
    ("gpus.include", "al", 'expected "all" or a list, did you mean "all"?'),
    ("gpus.include", [-1], "expected int >= 0 - at $[0]"),
    ("gpus.exclude", [""], "expected str of length >= 1 - at $[0]"),
    ("gpus.groups", [0, 1], "expected a list, got a whole number - at $[0]"),
    ("gpus.groups", [[0], []], "expected array of length >= 1 - at $[1]"),
    ("gpus.cpu_children", "none", 'expected "auto" or a whole number'),
    ("gpus.require_gpu", "yes", "expected true or false, got text in quotes"),
    ("models.path", "models", "must be an absolute path, or start with ~"),
    ("log.level", "warn", 'expected "debug" or "info" or "warning" or "error", did you mean "warning"?'),
    ("log.format", True, "expected text in quotes, got true or false"),
    ("proxy.listne", "x", 'there is no such key, did you mean "listen"?'),
    ("porxy.listen", "x", 'there is no table [porxy], did you mean "proxy"?'),
    ("log", "debug", "is a table: write it as [log]"),
    ("colour", True, "there is no table [colour]; there are [access], [control], [gpus], [log]"),
)
"""A key, a value that it refuses whatever the other keys say, and what the refusal says."""
