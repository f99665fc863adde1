"""`ollamad install-service` and `ollamad uninstall-service`."""

from __future__ import annotations

import argparse
from pathlib import Path

from ollamad.systemd.install import HERE, install, uninstall


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The two commands."""
    made = commands.add_parser(
        "install-service", allow_abbrev=False, help="make it a service of systemd, and start it; says what it does"
    )
    made.set_defaults(command=_install)
    made.add_argument(
        "--replace-ollama",
        action="store_true",
        help="run in place of the stock ollama.service, as its user and with its models; uninstalling brings it back",
    )
    undone = commands.add_parser(
        "uninstall-service", allow_abbrev=False, help="stop the service, and remove all but models and what you wrote"
    )
    undone.set_defaults(command=_uninstall)
    for command in (made, undone):
        command.add_argument(
            "--root", metavar="DIR", type=Path, default=HERE, help="only write files, below this folder: for images"
        )


def _say(line: str) -> None:
    print(line, flush=True)  # before an error that comes after it, also where both go into one file


def _install(options: argparse.Namespace) -> int:
    install(options.root.absolute(), _say, replace_ollama=options.replace_ollama)
    return 0


def _uninstall(options: argparse.Namespace) -> int:
    uninstall(options.root.absolute(), _say)
    return 0
