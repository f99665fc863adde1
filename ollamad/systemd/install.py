"""Makes ollamad a service of this machine, and undoes it: what is done is told, and done again it does nothing.

With another root than `/` only files are written there: an image, or a package, is made so.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from ollamad import __version__
from ollamad.errors import StartError
from ollamad.systemd import machine
from ollamad.systemd.files import (
    COMMANDS,
    CONFIG,
    DROP_INS,
    NEW_CONFIG,
    PLACES,
    PROGRAMS,
    RUNTIME,
    SOCKET_DROP_INS,
    STATE,
    UNITS,
    Stock,
    all_places,
    service_files,
    what_ollama_was,
)
from ollamad.systemd.writing import Say, link, remove, remove_empty, unlink, write

HERE: Final = Path("/")
SOCKET: Final = "ollamad.socket"
SERVICE: Final = "ollamad.service"
PIPX: Final = "sudo PIPX_HOME=/opt/pipx PIPX_BIN_DIR=/usr/local/bin pipx install ."
VENV: Final = "sudo python3 -m venv /opt/ollamad && sudo /opt/ollamad/bin/pip install ."


def install(root: Path, say: Say, *, replace_ollama: bool = False) -> None:
    """Write the files and, where the root is this machine's, start the service. Raises StartError."""
    folder = machine.programs()
    stock: Stock | None = None
    if root == HERE:
        _refuse_where_it_cannot_run(folder)
        _refuse_a_configuration_with_problems(folder)
        stock = machine.stock() if what_ollama_was(root) is None else None
    if stock is not None and not replace_ollama:
        raise StartError(
            f"{machine.STOCK} is a service here ({', '.join(stock.was)}), and both can't have one address. With"
            " --replace-ollama it is stopped and disabled, its models are used where they are, and uninstall-service"
            f" brings it back; or do so yourself: systemctl disable --now {machine.STOCK}"
        )
    files = service_files(folder, machine.systemd_version(), stock)
    changed = {place for place, text in files.items() if write(root / place, text, say)}
    if not (root / CONFIG).exists():
        write(root / CONFIG, NEW_CONFIG, say)
    for name in PROGRAMS:
        link(root / COMMANDS / name, folder / name, say)
    if root == HERE:
        _take_into_use(changed, stock, say)
    else:
        say(f"to start it at the next boot there: systemctl --root={root} enable {SOCKET} {SERVICE}")


def uninstall(root: Path, say: Say) -> None:
    """Stop the service and take all files away, but for models and what an operator wrote. Raises StartError."""
    was = what_ollama_was(root)
    if not any(os.path.lexists(root / place) for place in all_places()):
        say("ollamad is not installed as a service here")
    if root == HERE:
        _refuse_who_may_not()
        _stop([unit for unit in (SOCKET, SERVICE) if (root / UNITS / unit).exists()], say)
    _take_files_away(root, say)
    if root == HERE:
        machine.run("systemctl", "daemon-reload")
        machine.says("systemctl", "reset-failed", SOCKET, SERVICE)
        _bring_back(was, say)
        say(f"kept {machine.programs()}, the program itself")
    if (root / STATE).exists():
        say(f"kept {root / STATE}, models and all, and its user; to be rid of them: rm -r /{STATE} && userdel ollamad")


def _take_files_away(root: Path, say: Say) -> None:
    """All that is ours; a configuration that somebody wrote stays, and is there when ollamad is installed again."""
    if (root / CONFIG).exists() and (root / CONFIG).read_bytes() == NEW_CONFIG.encode():
        remove(root / CONFIG, say)
    for place in (*all_places(), RUNTIME / "control.sock", RUNTIME / "control.sock.lock"):
        remove(root / place, say)
    for name in PROGRAMS:
        unlink(root / COMMANDS / name, machine.programs(), say)
    for place in (DROP_INS, SOCKET_DROP_INS, CONFIG.parent, RUNTIME):
        remove_empty(root / place, say)


def _refuse_who_may_not() -> None:
    if os.geteuid() != 0:
        raise StartError("this needs root: call it with sudo")
    if not machine.RUNNING.exists():
        raise StartError(
            "this machine is not run by systemd: have what runs it start `ollamad serve`; --root DIR only writes files"
        )


def _refuse_where_it_cannot_run(folder: Path) -> None:
    _refuse_who_may_not()
    if why := machine.why_out_of_reach(folder):
        raise StartError(
            f"the service has a user of its own, which can't run {folder}/ollamad: {why}."
            f" Install it where all may read it, from its folder, and call that one:\n  {VENV}\nor\n  {PIPX}"
        )


def _refuse_a_configuration_with_problems(folder: Path) -> None:
    """What runs goes on as it is: a new version may not know a key that the old one knew."""
    if not (HERE / CONFIG).exists():
        return
    check = [str(folder / "ollamad"), "check", "--quiet", "--config", str(HERE / CONFIG)]
    done = subprocess.run(check, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode != 0:
        told = done.stderr.strip().removeprefix("ollamad: ")
        raise StartError(f"nothing was changed, as ollamad {__version__} can't use /{CONFIG}: {told}")


def _take_into_use(changed: set[Path], stock: Stock | None, say: Say) -> None:
    """Enable and start both units; what runs by an older unit is started anew."""
    machine.run("systemd-sysusers", f"/{PLACES['ollamad.sysusers']}")
    machine.run("systemd-tmpfiles", "--create", f"/{PLACES['ollamad.tmpfiles']}")
    machine.run("systemctl", "daemon-reload")
    if stock is not None:
        machine.run("systemctl", "disable", "--now", machine.STOCK)
        say(f"stopped and disabled {machine.STOCK}; ollamad runs as its user, {stock.user}, with its models")
        if stock.told:
            say(f"not taken over from it, set these in /{CONFIG} where you need them: {', '.join(stock.told)}")
    machine.run("systemctl", "enable", SOCKET, SERVICE)
    if PLACES[SOCKET] in changed and machine.says("systemctl", "is-active", SOCKET) == "active":
        machine.run("systemctl", "stop", SOCKET, SERVICE)
    machine.says("systemctl", "reset-failed", SOCKET, SERVICE)  # who calls this has mended what failed before
    machine.run("systemctl", "start", SOCKET)
    pid = int(machine.says("systemctl", "show", "--property=MainPID", "--value", SERVICE) or 0)
    anew = bool(changed) or (pid > 0 and machine.is_outdated(pid))
    try:
        machine.run("systemctl", "restart" if anew else "start", SERVICE)
    except StartError as error:
        told = machine.says("journalctl", "--unit", SERVICE, "--lines", "5", "--output", "cat", "--no-pager")
        raise StartError(
            f"it is installed, but does not start:\n{told}\n"
            "Mend that, then: systemctl reset-failed 'ollamad.*'; systemctl start ollamad"
        ) from error
    status = machine.says("systemctl", "show", "--property=StatusText", "--value", SERVICE)
    say(f"ollamad {__version__} runs: {status}{'; ollamactl status says why' * status.startswith('0 of')}")


def _stop(units: Iterable[str], say: Say) -> None:
    for unit in units:
        machine.run("systemctl", "disable", "--now", unit)
        say(f"stopped and disabled {unit}")


def _bring_back(was: tuple[str, ...] | None, say: Say) -> None:
    if was is None:
        return
    for word, verb in (("enabled", "enable"), ("active", "start")):
        if word in was:
            machine.run("systemctl", verb, machine.STOCK)
    say(f"{machine.STOCK} is what it was: {' and '.join(was)}")
