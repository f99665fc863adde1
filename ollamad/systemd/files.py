"""The files that make ollamad a service: where each goes, and what is in it on this machine.

Their one source is the folder `units/`, which is in the wheel and can be read as it is: only the folder of the
installed program is put in place of the one that is written there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Final

from ollamad.config.checks import HOMES

WRITTEN: Final = "/opt/ollamad/bin"
"""The folder of the program in the units as they are kept."""
UNITS: Final = Path("etc/systemd/system")
DROP_INS: Final = UNITS / "ollamad.service.d"
SOCKET_DROP_INS: Final = UNITS / "ollamad.socket.d"
CONFIG: Final = Path("etc/ollamad/config.toml")
STATE: Final = Path("var/lib/ollamad")
RUNTIME: Final = Path("run/ollamad")
COMMANDS: Final = Path("usr/local/bin")
PROGRAMS: Final = ("ollamad", "ollamactl")

NOTIFY_RELOAD_FROM: Final = 253
"""The version of systemd that brought Type=notify-reload."""
PLACES: Final[Mapping[str, Path]] = {
    "ollamad.service": UNITS / "ollamad.service",
    "ollamad.socket": UNITS / "ollamad.socket",
    "ollamad-devices.service": UNITS / "ollamad-devices.service",
    "ollamad.sysusers": Path("etc/sysusers.d/ollamad.conf"),
    "ollamad.tmpfiles": Path("etc/tmpfiles.d/ollamad.conf"),
    "notify-reload.conf": DROP_INS / "10-notify-reload.conf",
}
AS_OLLAMA: Final = DROP_INS / "20-in-place-of-ollama.conf"
SOCKET_AS_OLLAMA: Final = SOCKET_DROP_INS / "20-in-place-of-ollama.conf"

_MARKS: Final = "X-OllamaWas="
_AS_OLLAMA: Final = """\
# ollamad runs in place of ollama.service: as its user, with its models where they are.
# `ollamad uninstall-service` takes this away, and brings ollama.service back to what it was:
[Unit]
Conflicts=ollama.service
{marks}{was}

[Service]
User={user}
Group={user}
ReadWritePaths={writes}
{more}"""
_SOCKET_AS_OLLAMA: Final = """\
[Socket]
SocketUser={user}
SocketGroup={user}
"""
NEW_CONFIG: Final = """\
# ollamad's configuration: write down only what differs from the defaults. This shows every key, and why:
#
#     ollamad check --example
#
# `systemctl reload ollamad` takes changes into use; one that can't be used changes nothing, and says why.
#
# When the service is stopped or restarted, answers may go on for 2 s, and then end with an error. For longer:
#
#     [proxy]
#     shutdown_grace_s = 60.0
"""


@dataclass(frozen=True, slots=True)
class Stock:
    """An Ollama that its own installer has made a service."""

    user: str
    home: Path
    """Its user's home; its models are below it."""
    was: tuple[str, ...]
    """What was true of the service: `active`, `enabled`, both or nothing."""
    models: Path | None = None
    """Where its own setting has its models (OLLAMA_MODELS); None where that is below its home."""
    told: tuple[str, ...] = ()
    """The other variables that it is given, which are not taken over."""


def service_files(programs: Path, systemd_version: int | None, stock: Stock | None = None) -> dict[Path, str]:
    """All files of the service but the configuration, by their places below the root.

    `programs` is the folder of `ollamad` and `ollamactl`; `stock` is the service in whose place it shall run.
    """
    folder = resources.files(__package__ or "") / "units"
    names = [name for name in PLACES if name != "notify-reload.conf" or (systemd_version or 0) >= NOTIFY_RELOAD_FROM]
    files = {
        PLACES[name]: (folder / name).read_text(encoding="utf-8").replace(WRITTEN, str(programs)) for name in names
    }
    if stock is not None:
        names_of = {"user": stock.user, "marks": _MARKS, "was": " ".join(stock.was)}
        files[AS_OLLAMA] = _AS_OLLAMA.format(**names_of, **_of_its_models(stock))
        files[SOCKET_AS_OLLAMA] = _SOCKET_AS_OLLAMA.format(**names_of)
    return files


def _of_its_models(stock: Stock) -> dict[str, str]:
    """Where ollamad may write in its place, and the settings that bring its models with it."""
    writes = (stock.home, *([stock.models] if stock.models else []))
    more = [f"Environment=OLLAMAD_MODELS_PATH={stock.models}"] if stock.models else []
    if any(path.is_relative_to(hidden) for path in writes for hidden in HOMES):
        more.append("ProtectHome=no")
    return {"writes": " ".join(map(str, writes)), "more": "".join(f"{line}\n" for line in more)}


def what_ollama_was(root: Path) -> tuple[str, ...] | None:
    """What the service was in whose place ours runs; None where it runs in nobody's."""
    try:
        lines = (root / AS_OLLAMA).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    return next((tuple(line.removeprefix(_MARKS).split()) for line in lines if line.startswith(_MARKS)), ())


def all_places() -> Iterator[Path]:
    """Every place where a file of ours may lie, whatever was installed."""
    yield from (*PLACES.values(), AS_OLLAMA, SOCKET_AS_OLLAMA)
