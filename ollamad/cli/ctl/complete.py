"""Shell completion. Each shell's script is a few lines that hand over what has been typed; what fits is found here.

So there is one understanding of the command line, the parser's tree, for three shells, and names are live.
"""

from __future__ import annotations

import argparse
import glob
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ollamad.cli.ctl.context import Context
from ollamad.cli.ctl.errors import DONE, CommandError
from ollamad.cli.ctl.parser import ACTS, CHILDREN, DEMO_ACTS, FILES, KEYS, MODELS, OPERATIONS, parser
from ollamad.cli.ctl.text import printable
from ollamad.cli.ctl.transport import Api, Control
from ollamad.cli.ctl.tree import abouts_of, commands_of, options_of, places_of, takes_value

SCRIPTS: Final[Mapping[str, str]] = {
    "bash": """\
_ollamactl() {
    local IFS=$'\\n'
    COMPREPLY=($("${COMP_WORDS[0]}" __complete bash "${COMP_LINE:0:COMP_POINT}" 2>/dev/null))
}
complete -o default -F _ollamactl ollamactl
""",
    "zsh": """\
#compdef ollamactl
_ollamactl() {
    local -a found
    found=("${(@f)$("${words[1]}" __complete zsh "${(j: :)words[1,CURRENT]}" 2>/dev/null)}")
    [[ -n $found ]] && compadd -a found
}
compdef _ollamactl ollamactl
""",
    "fish": """\
complete -c ollamactl -f -a '(ollamactl __complete fish (commandline -cp))'
""",
}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A word that fits."""

    word: str
    about: str = ""


Ask = Callable[[str, Path | None], Sequence[str]]
"""Names of one kind (children, models, operations) that the daemon at a socket has."""


def completion(context: Context) -> int:
    """Print one shell's script."""
    context.lines([SCRIPTS[context.options.shell].rstrip("\n")])
    return DONE


def complete(arguments: Sequence[str], ask: Ask | None = None) -> int:
    """What a shell's script asks: the shell, and the line up to the cursor. Whatever is wrong, it says nothing."""
    shell, line = (*arguments, "", "")[:2]
    found = candidates(line, ask or live_names)
    sys.stdout.write("".join(f"{_as_read_by(shell, line, one)}\n" for one in found))
    return DONE


def _as_read_by(shell: str, line: str, candidate: Candidate) -> str:
    word = printable(candidate.word)
    match shell:
        case "bash":  # readline takes a word apart at colons, and replaces only what comes after the last one
            before, colon, _ = line.rsplit(" ", maxsplit=1)[-1].rpartition(":")
            return word.removeprefix(before + colon)
        case "fish":
            return f"{word}\t{candidate.about}" if candidate.about else word
        case _:
            return word


def candidates(line: str, ask: Ask) -> list[Candidate]:
    """What fits at the end of a line."""
    *typed, current = line.split(" ")
    tree = parser()
    place = _Place(tree)
    for word in filter(None, typed[1:]):
        if not place.pass_over(word):
            return []
    return [one for one in _offered(place, current, ask) if one.word.startswith(current)]


class _Place:
    """Where in the tree a line has come to."""

    def __init__(self, tree: argparse.ArgumentParser) -> None:
        self.command = tree
        self.commands = commands_of(tree)
        self.abouts = abouts_of(tree)
        self.pending: argparse.Action | None = None
        """An option whose value comes next."""
        self.position = 0
        self.act = ""
        """What is to be done to a demo."""
        self.socket: Path | None = None

    def pass_over(self, word: str) -> bool:
        """Go on by one word; False where no such command is."""
        if self.pending is not None:
            self.socket = Path(word) if "--socket" in self.pending.option_strings else self.socket
            self.pending = None
        elif word.startswith("-"):
            self.pending = next(
                (one for one in options_of(self.command) if word in one.option_strings and takes_value(one)), None
            )
        elif self.commands:
            if word not in self.commands:
                return False
            self.command = self.commands[word]
            self.commands, self.abouts = commands_of(self.command), abouts_of(self.command)
        else:
            places = places_of(self.command)
            if self.position < len(places) and vars(places[self.position]).get("completes") == ACTS:
                self.act = word
            self.position += 1
        return True


def _offered(place: _Place, current: str, ask: Ask) -> list[Candidate]:
    if place.pending is not None:
        return _values(place.pending, current, place.socket, ask)
    if current.startswith("-"):
        return [
            Candidate(flag, str(action.help)) for action in options_of(place.command) for flag in action.option_strings
        ]
    if place.commands:
        return [Candidate(name, place.abouts[name]) for name in place.commands]
    places = places_of(place.command)
    if place.position >= len(places) or place.act == "traffic":
        return []
    return _values(places[place.position], current, place.socket, ask)


def _values(action: argparse.Action, current: str, socket: Path | None, ask: Ask) -> list[Candidate]:
    kind = vars(action).get("completes")
    if kind == ACTS:
        return [Candidate(act, about) for act, about in DEMO_ACTS.items()]
    if action.choices:
        return [Candidate(str(choice)) for choice in action.choices]
    if kind == FILES:
        paths = sorted(glob.glob(f"{glob.escape(current)}*"))  # noqa: PTH207 - as typed: pathlib would tidy `./a` to `a`
        return [Candidate(path + "/" * Path(path).is_dir()) for path in paths]
    return [Candidate(name) for name in ask(kind, socket)] if kind else []


def live_names(kind: str, socket: Path | None) -> Sequence[str]:
    """Names that the daemon has; none where it can't be asked."""
    try:
        return _NAMES[kind](Control(socket, os.environ))
    except CommandError:
        return ()


def _children(control: Control) -> list[str]:
    return [child["id"] for child in control.get("/v1/children")["children"]]


def _models(control: Control) -> list[str]:
    return [model["name"] for model in Api.of(control).ask("GET", "/api/tags")[0].get("models") or ()]


def _keys(control: Control) -> list[str]:
    return [key["name"] for key in control.get("/v1/keys")["keys"]]


def _operations(control: Control) -> list[str]:
    return [one["operation"] for one in control.get("/v1/operations")["operations"]]


_NAMES: Final[Mapping[str, Callable[[Control], list[str]]]] = {
    CHILDREN: _children,
    MODELS: _models,
    OPERATIONS: _operations,
    KEYS: _keys,
}
