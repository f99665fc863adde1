"""What one key's type can't say: that addresses parse, that keys agree, that paths can be used."""

from __future__ import annotations

import ipaddress
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from ollamad.config.accounts import group_number, user_number
from ollamad.config.address import parse_address
from ollamad.config.exposure import check_exposure
from ollamad.config.schema import Config
from ollamad.config.secrets import shown
from ollamad.errors import Problem

OWNED_VARIABLES: Final[Mapping[str, str]] = {
    "OLLAMA_HOST": "ollama.base_port",
    "OLLAMA_MODELS": "models.path",
    "OLLAMA_NUM_PARALLEL": "ollama.num_parallel",
    "OLLAMA_CONTEXT_LENGTH": "ollama.context_length",
    "OLLAMA_MAX_LOADED_MODELS": "ollama.max_loaded_models",
    "OLLAMA_MAX_QUEUE": "ollama.max_queue",
    "OLLAMA_KEEP_ALIVE": "ollama.keep_alive",
    "OLLAMA_LOAD_TIMEOUT": "ollama.load_timeout_s",
    "LLAMA_ARG_CACHE_RAM": "ollama.prompt_cache_mib",
    "LLAMA_ARG_FIT_TARGET": "ollama.fit_margin_mib",
    "OLLAMA_ORIGINS": "proxy.allowed_origins",
    "HOME": "ollama.home",
    "CUDA_VISIBLE_DEVICES": "gpus.include",
    "HIP_VISIBLE_DEVICES": "gpus.include",
    "ROCR_VISIBLE_DEVICES": "gpus.include",
    "GPU_DEVICE_ORDINAL": "gpus.include",
}
"""Variables of a child that a key of its own decides; setting them twice would leave the winner to chance."""

FIXED_VARIABLES: Final[Mapping[str, str]] = {
    "OLLAMA_NOPRUNE": "children share one store, and a pruning child deletes what its sibling pulls",
    "OLLAMA_VULKAN": "Vulkan ignores the pinning and would use every GPU",
    "OLLAMAD_INSTANCE": "it marks our processes",
    "OLLAMAD_CHILD": "it marks our processes",
}

AUTO: Final = "auto"

HOMES: Final = ("/home", "/root", "/run/user")
"""What ProtectHome= hides."""
STORE_FOLDERS: Final = ("blobs", "manifests")
"""Of a store. Those of an ollama that once ran as root are often root's alone."""

SOCKET_PATH_MAX_BYTES: Final = 107
"""unix(7): `sun_path` holds 108 bytes, the last of them NUL."""


def check(config: Config, origins: Mapping[str, str], home: str) -> list[Problem]:
    """Every contradiction in a configuration whose keys are each valid alone. `home` is what `~` stands for."""

    def problem(key: str, value: object, message: str) -> Problem:
        return Problem(key, message, json.dumps(value, ensure_ascii=False), origins.get(key, "default"))

    found: list[Problem] = []
    for part in (_addresses, _proxies, _gpus, _environment, _backoff, _access, _waits, _replicas):
        found += part(config, problem)
    found += check_exposure(config, problem, lambda text: expand(text, home))
    found += _paths(config, problem, home)
    found += _socket(config, problem, home)
    return found


_Report = Callable[[str, object, str], Problem]


def _addresses(config: Config, problem: _Report) -> Iterator[Problem]:
    seen: dict[str, str] = {}
    listens = [("proxy.listen", config.proxy.listen), ("status.listen", config.status.listen)]
    if config.status.agent_listen:
        listens.append(("status.agent_listen", config.status.agent_listen))
    for key, listen in listens:
        try:
            address = parse_address(listen)
        except ValueError as error:
            yield problem(key, listen, str(error))
            continue
        if address.port and (other := seen.setdefault(str(address), key)) != key:
            yield problem(key, listen, f"is also {other}; each needs an address of its own")


def _proxies(config: Config, problem: _Report) -> Iterator[Problem]:
    for network in config.proxy.trusted_proxies:
        try:
            ipaddress.ip_network(network, strict=False)
        except ValueError:
            yield problem("proxy.trusted_proxies", network, 'is no address or network such as "10.0.0.0/8" or "::1"')
    for origin in config.proxy.allowed_origins:
        if origin != "*" and ("://" not in origin or origin.count("*") > 1):
            yield problem(
                "proxy.allowed_origins",
                origin,
                'is no origin such as "https://chat.example.com"; "*" may stand in it once',
            )


def _gpus(config: Config, problem: _Report) -> Iterator[Problem]:
    gpus = config.gpus
    if gpus.include != "all":
        yield from _twice("gpus.include", gpus.include, problem)
    yield from _twice("gpus.exclude", gpus.exclude, problem)
    grouped = [selector for group in gpus.groups for selector in group]
    yield from _twice("gpus.groups", grouped, problem)
    for selector in set(map(_same, grouped)) & set(map(_same, gpus.exclude)):
        yield problem("gpus.exclude", selector, "is in gpus.groups too; take it out of one of them")
    if gpus.require_gpu and gpus.cpu_children not in {"auto", 0}:
        yield problem(
            "gpus.cpu_children", gpus.cpu_children, "gpus.require_gpu = true leaves no place for CPU children"
        )


def _twice(key: str, selectors: tuple[int | str, ...] | list[int | str], problem: _Report) -> Iterator[Problem]:
    known = set()
    for selector in selectors:
        if _same(selector) in known:
            yield problem(key, selector, "names one GPU twice; a GPU can have one child")
        known.add(_same(selector))


def _same(selector: int | str) -> str:
    return str(selector).lower()


def _environment(config: Config, problem: _Report) -> Iterator[Problem]:
    for name, value in config.ollama.env.items():
        told = {name: shown(name, value)}
        if owner := OWNED_VARIABLES.get(name):
            yield problem("ollama.env", told, f"{name} is set by ollamad; use the key {owner}")
        elif why := FIXED_VARIABLES.get(name):
            yield problem("ollama.env", told, f"{name} can't be set: {why}")
        elif not name or "=" in name or "\0" in name + value:
            yield problem("ollama.env", told, "is no name and value that an environment can hold")


def _backoff(config: Config, problem: _Report) -> Iterator[Problem]:
    supervision = config.supervision
    if supervision.backoff_max_s < supervision.backoff_initial_s:
        yield problem(
            "supervision.backoff_max_s",
            supervision.backoff_max_s,
            f"must be at least supervision.backoff_initial_s ({supervision.backoff_initial_s})",
        )


def _waits(config: Config, problem: _Report) -> Iterator[Problem]:
    models = config.models
    if models.retry_max_s < models.retry_initial_s:
        yield problem(
            "models.retry_max_s",
            models.retry_max_s,
            f"must be at least models.retry_initial_s ({models.retry_initial_s})",
        )


def _replicas(config: Config, problem: _Report) -> Iterator[Problem]:
    for name, model in config.routing.models.items():
        least = max(model.min_replicas, int(model.pin))
        if model.max_replicas and model.max_replicas < least:
            value = {name: {"max_replicas": model.max_replicas}}
            yield problem("routing.models", value, f"is less than the {least} that are always wanted")


def _paths(config: Config, problem: _Report, home: str) -> Iterator[Problem]:
    own = config.models.per_child_path
    if config.models.store == "per-child" and "{child}" not in own:
        yield problem("models.per_child_path", own, "must hold {child}, or all children would have one store")
    first = own.replace("{path}", config.models.path).replace("{child}", "gpu0")
    below_a_bad_one = "{path}" in own and not expand(config.models.path, home).is_absolute()  # that one is told alone
    used = [("models.per_child_path", first)] if config.models.store == "per-child" and not below_a_bad_one else []
    for key, text in [("models.path", config.models.path), ("ollama.home", config.ollama.home), *used]:
        path = expand(text, home)
        if not path.is_absolute():
            yield problem(key, text, "must be an absolute path, or start with ~")
        elif reason := _unusable(path):
            yield problem(key, text, reason)


def _socket(config: Config, problem: _Report, home: str) -> Iterator[Problem]:
    socket = config.control.socket
    if socket == AUTO:
        return
    path = expand(socket, home)
    if not path.is_absolute():
        yield problem("control.socket", socket, 'must be "auto", an absolute path, or start with ~')
    elif "\0" in str(path):
        yield problem("control.socket", socket, "holds a NUL character, which no path can")
    elif (length := len(os.fsencode(path))) > SOCKET_PATH_MAX_BYTES:
        long = f"is {length} bytes long; the path of a unix socket can have {SOCKET_PATH_MAX_BYTES}"
        yield problem("control.socket", socket, long)


def _access(config: Config, problem: _Report) -> Iterator[Problem]:
    control = config.control
    if int(control.mode, 8) & 0o002:
        yield problem("control.mode", control.mode, "would let every user connect; set control.group instead")
    for key, name in (("control.owner", control.owner), *(("control.operators", name) for name in control.operators)):
        if name and user_number(name) is None:
            yield problem(key, name, "there is no such user here")
    if control.group and group_number(control.group) is None:
        yield problem("control.group", control.group, "there is no such group here")


def expand(text: str, home: str) -> Path:
    """A path with a leading `~` read as `home`."""
    return Path(home + text[1:]) if text == "~" or text.startswith("~/") else Path(text)


def nearest_there(path: Path) -> Path:
    """The path, or the nearest of the folders above it that is there: where it would be made."""
    return next(at for at in (path, *path.parents) if os.path.lexists(at) or at == at.parent)


def _unusable(path: Path) -> str | None:
    """Why this directory can't be used or made; None when it can."""
    if "\0" in str(path):
        return "holds a NUL character, which no path can"
    at = nearest_there(path)
    if not at.is_dir():
        return f"{at} is not a directory that can be entered"
    if not os.access(at, os.R_OK | os.W_OK | os.X_OK):
        return f"{at} can't be read and written by this user (uid {os.getuid()}){_what_then(at, path)}"
    for folder in (path / name for name in STORE_FOLDERS):
        if folder.is_dir() and not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            uid = os.geteuid()
            return f"{folder} can't be read and written by this user (uid {uid}): chown -R {uid} {path}"
    return None


def _what_then(at: Path, path: Path) -> str:
    """What to do about a directory that can't be written; a service's sandbox shuts more than its user's shell."""
    if "INVOCATION_ID" in os.environ:  # by systemd.exec(5), which says so to what it runs
        if any(path.is_relative_to(top) for top in HOMES):
            return f"; a service sees no homes: `systemctl edit ollamad`, ProtectHome=no and ReadWritePaths={path}"
        if os.statvfs(at).f_flag & os.ST_RDONLY:
            return f"; it is read-only for this service: `systemctl edit ollamad`, ReadWritePaths={path}"
    return "; give it to that user"
