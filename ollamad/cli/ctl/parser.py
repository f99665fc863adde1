"""What can be typed: one argparse tree, from which the help, the completions and the man page are drawn."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from ollamad import __version__
from ollamad.control.place import SYSTEM, VARIABLE

CHILDREN: Final = "children"
MODELS: Final = "models"
OPERATIONS: Final = "operations"
KEYS: Final = "keys"
FILES: Final = "files"
ACTS: Final = "acts"
DEMO_ACTS: Final = {
    "kill": "kill GPU: its server gets SIGKILL",
    "crash": "crash GPU: it is killed, and exits whenever it is started",
    "freeze": "freeze GPU: its processes get SIGSTOP, and answer nothing",
    "hang": "hang GPU: what it has loaded gives no more tokens",
    "slow": "slow GPU [TIMES]: everything takes it so many times as long, 8 unless said",
    "lose": "lose GPU: it falls off the bus (Xid 79)",
    "stall": "stall GPU: the driver hangs in calls about it",
    "fill": "fill GPU SIZE: another program has so much of its memory, such as 20GiB",
    "traffic": "traffic RATE: requests, such as 12/s, 30/min or 0",
    "heal": "heal [GPU]: all that is broken is mended, there or everywhere",
}
"""What can be done to a demo, and a line about each."""
WATCH_S: Final = 2.0
WATCH_MIN_S: Final = 0.1
WATCH_MAX_S: Final = 3600.0

Subparsers = Any  # argparse names this type with an underscore

DESCRIPTION: Final = "Look at a running ollamad and steer it."
EXIT_CODES: Final = (
    "exit codes: 0 done; 1 refused or failed, the reason is on standard error; 2 wrong usage;"
    " 3 no ollamad at that socket"
)


def parser() -> argparse.ArgumentParser:
    """The whole tree."""
    top = argparse.ArgumentParser(prog="ollamactl", description=DESCRIPTION, epilog=EXIT_CODES, allow_abbrev=False)
    top.add_argument("--version", action="version", version=f"ollamactl {__version__}")
    _common(top, default=None, json_default=False)
    commands = top.add_subparsers(required=True, metavar="COMMAND", dest="command")
    for add in (_looking, _changing, _modelling, _keying, _playing, _helping):
        add(commands)
    return top


def _looking(commands: Subparsers) -> None:
    for name, about in (
        ("status", "the daemon, its children and their GPUs at a glance"),
        ("gpus", "the GPUs and their latest readings"),
        ("requests", "the requests in flight, and for how long each has been silent"),
        ("models", "the models, and which children have them loaded"),
    ):
        command = _command(commands, name, f"look:{name}", about)
        command.add_argument(
            "--watch",
            metavar="SECONDS",
            nargs="?",
            type=_interval_s,
            const=WATCH_S,
            help=f"show it again and again, every {WATCH_S:g} seconds or as many as are given",
        )
    route = _command(commands, "route", "look:route", "where a request for a model would go now")
    _named(route, "model", MODELS, "the model")
    _flag(route, "--explain", "and how every child stands to it")
    _command(commands, "top", "top:top", "a live screen of GPUs, children, models and requests; q leaves it")
    logs = _command(commands, "logs", "change:logs", "the last lines that a child printed, or all children")
    _named(logs, "child", CHILDREN, "the child", optional=True)
    _flag(logs, "--follow", "go on with what comes; Ctrl-C ends it", short="-f")


def _changing(commands: Subparsers) -> None:
    drain = _command(commands, "drain", "change:drain", "give a child nothing new; it stops once it is idle")
    _named(drain, "child", CHILDREN, "the child")
    _flag(drain, "--wait", "wait until it has stopped")
    undrain = _command(commands, "undrain", "change:undrain", "take a drained child into use again")
    _named(undrain, "child", CHILDREN, "the child")
    restart = _command(
        commands, "restart", "change:restart", "drain a child, then start it anew; wait until it is ready"
    )
    which = restart.add_mutually_exclusive_group(required=True)
    _named(which, "child", CHILDREN, "the child", optional=True)
    _flag(which, "--rolling", "all children, one after the other, each ready again before the next")
    _flag(restart, "--no-wait", "do not wait until it is ready again")
    reset = _command(commands, "reset", "change:reset", "forget a child's deaths: it leaves 'failed' and starts now")
    _named(reset, "child", CHILDREN, "the child")
    again = _command(commands, "reload", "change:reload", "read the configuration again; only what differs is applied")
    _flag(again, "--no-wait", "only until it is in force: children that must restart for it follow, one by one")
    operations = _command(
        commands,
        "operations",
        "change:operations",
        "operations that take long, running or over; or one, with its progress",
    )
    _named(operations, "operation", OPERATIONS, "the id of one", optional=True)
    _flag(operations, "--follow", "go on with its progress until it is over", short="-f")


def _modelling(commands: Subparsers) -> None:
    load = _command(commands, "load", "models:load", "load a model: where routing wants it, or where you do")
    _named(load, "model", MODELS, "the model")
    where = load.add_mutually_exclusive_group()
    _named(where, "--child", CHILDREN, "on this child")
    where.add_argument("--replicas", metavar="N", type=_count, help="on so many children, those that have it counted")
    load.add_argument(
        "--keep-alive",
        metavar="TIME",
        type=_keep_alive,
        help='how long it stays while idle: "90s", "5m", "-1" for ever',
    )
    unload = _command(commands, "unload", "models:unload", "take a model out of VRAM, on all children or on one")
    _named(unload, "model", MODELS, "the model")
    _named(unload, "--child", CHILDREN, "on this child only")
    pull = _command(commands, "pull", "models:pull", "get a model from its registry")
    _named(pull, "model", MODELS, "the model")
    _flag(pull, "--insecure", "from a registry without TLS, or whose certificate nobody vouches for, too")
    _command(commands, "sync", "change:sync", "make the stores of all children equal, now")
    prune = _command(commands, "prune", "change:prune", "delete what no model needs: blobs, and what pulls have left")
    _flag(prune, "--dry-run", "only say what would be deleted")
    _flag(prune, "--now", "also what changed within models.prune_grace_s, such as what a broken off pull has left")
    rm = _command(commands, "rm", "models:rm", "delete a model")
    _named(rm, "model", MODELS, "the model")


def _keying(commands: Subparsers) -> None:
    group = commands.add_parser("key", help="API keys: create, list, revoke", allow_abbrev=False)
    keys = group.add_subparsers(required=True, metavar="ACTION", dest="action")
    create = _command(keys, "create", "keys:create", "make an API key; it is printed this once")
    create.add_argument("name", metavar="NAME", help="whose it is; it stands in logs and metrics")
    create.add_argument(
        "--scope",
        action="append",
        dest="scopes",
        choices=("infer", "read", "manage", "status"),
        help="what it is for, may be given again; infer and read where nothing is said. manage: to pull, create and"
        " delete; status: to see the status listener",
    )
    _completes(
        create.add_argument(
            "--model",
            metavar="PATTERN",
            action="append",
            dest="models",
            help='the models that it may use and see, such as "llama3*", may be given again; all where nothing is said',
        ),
        MODELS,
    )
    create.add_argument("--rate", metavar="N", type=_count, default=0, help="requests a minute, at most")
    create.add_argument("--concurrent", metavar="N", type=_count, default=0, help="requests at once, at most")
    create.add_argument(
        "--priority", choices=("high", "normal", "low"), default="normal", help="its share where requests wait"
    )
    create.add_argument(
        "--expires", metavar="TIME", type=_later, help='when it ends: "12h", "90d", or a date, 2027-12-31'
    )
    _command(keys, "list", "keys:listed", "the API keys, without what opens a door")
    revoke = _command(keys, "revoke", "keys:revoke", "take an API key out of force, and end what it has in flight")
    _flag(revoke, "--let-finish", "let what it has in flight go on to its end")
    _named(revoke, "key", KEYS, "its name or its id")


def _playing(commands: Subparsers) -> None:
    demo = _command(commands, "demo", "demo:demo", "break something in a demo, or mend it; alone: what is broken")
    demo.formatter_class = argparse.RawDescriptionHelpFormatter
    demo.epilog = "what can be done:\n" + "\n".join(f"  {about}" for about in DEMO_ACTS.values())
    acts = demo.add_argument("act", metavar="ACT", nargs="?", choices=tuple(DEMO_ACTS), help="what to do, see below")
    _completes(acts, ACTS)
    _named(demo, "target", CHILDREN, "to which GPU or child, such as gpu1", optional=True)
    demo.add_argument("value", metavar="VALUE", nargs="?", help="how much, where that is asked for")


def _helping(commands: Subparsers) -> None:
    completion = _command(
        commands, "completion", "complete:completion", "print the completions of a shell, to be read by it"
    )
    completion.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell")
    _command(commands, "man", "man:man", "print the manual page, as man -l reads it")


def _command(commands: Subparsers, name: str, runs: str, about: str) -> argparse.ArgumentParser:
    """One command. It runs `module:function` of this package, imported only when it is the one that was typed."""
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=about, description=f"{about[0].upper()}{about[1:]}.", allow_abbrev=False
    )
    command.set_defaults(runs=runs, parser=command)
    _common(command, default=argparse.SUPPRESS, json_default=argparse.SUPPRESS)
    return command


def _common(command: argparse.ArgumentParser, *, default: Any, json_default: Any) -> None:
    """What can stand before the command and after it."""
    socket = command.add_argument(
        "--socket",
        metavar="PATH",
        type=Path,
        default=default,
        help=f"the daemon's control socket; else ${VARIABLE}, else {SYSTEM}, else your own ollamad's",
    )
    _completes(socket, FILES)
    command.add_argument(
        "--json", action="store_true", default=json_default, help="print JSON, whose keys stay as they are"
    )


def _named(to: Any, name: str, completes: str, about: str, *, optional: bool = False) -> None:
    """An argument that names something that the daemon has."""
    metavar = name.removeprefix("--").upper()
    if name.startswith("--"):
        _completes(to.add_argument(name, metavar=metavar, help=about), completes)
    else:
        _completes(to.add_argument(name, metavar=metavar, nargs="?" if optional else None, help=about), completes)


def _flag(to: Any, name: str, about: str, *, short: str | None = None) -> None:
    to.add_argument(*filter(None, (short, name)), action="store_true", help=about)


def _completes(action: argparse.Action, what: str) -> None:
    vars(action)["completes"] = what


def _interval_s(text: str) -> float:
    value = float(text)
    if not WATCH_MIN_S <= value <= WATCH_MAX_S:
        raise argparse.ArgumentTypeError(f"seconds from {WATCH_MIN_S:g} to {WATCH_MAX_S:g} are expected")
    return value


def _later(text: str) -> str:
    """A time to come, as RFC 3339 writes it."""
    amount, unit = text[:-1], text[-1:]
    if amount.isdecimal() and unit in _UNITS:
        return (datetime.now(UTC) + timedelta(**{_UNITS[unit]: int(amount)})).isoformat(timespec="seconds")
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError('a time such as "12h", "90d" or "2027-12-31" is expected') from None
    return (found if found.tzinfo else found.astimezone()).isoformat(timespec="seconds")


_UNITS: Final = {"h": "hours", "d": "days", "w": "weeks"}


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("a number from 1 up is expected")
    return value


def _keep_alive(text: str) -> int | str:
    """Ollama takes a number of seconds, or text with a unit; the number as text it refuses."""
    return int(text) if text.removeprefix("-").isdecimal() else text
