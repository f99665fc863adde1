"""The manual page, drawn from the parser's tree."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from ollamad import __version__
from ollamad.cli.ctl.context import Context
from ollamad.cli.ctl.errors import DONE
from ollamad.cli.ctl.parser import DESCRIPTION, parser
from ollamad.cli.ctl.tree import leaves_of, options_of, places_of
from ollamad.control.place import SYSTEM, VARIABLE

COMMON = frozenset({"--socket", "--json", "--help"})


def man(context: Context) -> int:
    """Print it."""
    context.lines([page().rstrip("\n")])
    return DONE


def page() -> str:
    """The page, as troff."""
    return "\n".join(_page(parser())) + "\n"


def _page(tree: argparse.ArgumentParser) -> Iterator[str]:
    yield f'.TH OLLAMACTL 1 "" "ollamad {__version__}" "ollamad"'
    yield ".SH NAME"
    yield "ollamactl \\- look at a running ollamad and steer it"
    yield ".SH SYNOPSIS"
    yield ".B ollamactl"
    yield "[\\fB\\-\\-socket\\fR \\fIPATH\\fR] [\\fB\\-\\-json\\fR] \\fICOMMAND\\fR [\\fIARGUMENT\\fR ...]"
    yield ".SH DESCRIPTION"
    yield _escaped(DESCRIPTION)
    yield "It asks the daemon over its control socket, a unix socket, and the Ollama API for what is about models."
    yield "Who may connect to the socket may look; to change something takes root, the daemon's own user, or one of"
    yield "those that the daemon's configuration names."
    yield ".SH OPTIONS"
    yield from _entries(options_of(tree), frozenset())
    yield ".SH COMMANDS"
    for name, about, command in leaves_of(tree):
        yield ".TP"
        yield f"\\fB{name}\\fR{_usage(command)}"
        yield _sentence(about)
        own = [action for action in options_of(command) if not COMMON & {*action.option_strings}]
        if own:
            yield ".RS"
            yield from _entries(own, COMMON)
            yield ".RE"
    yield from _end()


def _usage(command: argparse.ArgumentParser) -> str:
    shown = []
    for action in places_of(command):
        name = f"\\fI{action.metavar or (action.dest.upper())}\\fR"
        if action.choices:
            name = "|".join(f"\\fB{choice}\\fR" for choice in action.choices)
        shown.append(f" [{name}]" if action.nargs == "?" else f" {name}")
    return "".join(shown)


def _entries(actions: list[argparse.Action], without: frozenset[str]) -> Iterator[str]:
    for action in actions:
        if without & {*action.option_strings}:
            continue
        flags = ", ".join(f"\\fB{_escaped(flag)}\\fR" for flag in action.option_strings)
        value = f" \\fI{action.metavar}\\fR" if action.metavar else ""
        yield ".TP"
        yield flags + (f" [{value.strip()}]" if action.nargs == "?" else value)
        yield _sentence(str(action.help))


def _end() -> Iterator[str]:
    yield ".SH EXIT STATUS"
    for code, meaning in (
        ("0", "done"),
        ("1", "refused or failed; the reason is on standard error"),
        ("2", "wrong usage"),
        ("3", "no ollamad at that socket"),
        ("130", "interrupted"),
    ):
        yield from (".TP", code, _sentence(meaning))
    yield ".SH ENVIRONMENT"
    yield from (".TP", f"\\fB{VARIABLE}\\fR", "The control socket, where \\fB\\-\\-socket\\fR does not name one.")
    yield ".SH FILES"
    yield from (".TP", f"\\fI{SYSTEM}\\fR", "The control socket of the system's ollamad.")
    yield from (
        ".TP",
        "\\fI$XDG_RUNTIME_DIR/ollamad/control.sock\\fR, \\fI/tmp/ollamad\\-UID/control.sock\\fR",
        "That of a user's own; looked for in this order.",
    )
    yield ".SH EXAMPLES"
    for example, meaning in (
        ("ollamactl status --watch", "Keep an eye on all of it."),
        ("ollamactl drain gpu1 --wait && ollamactl restart gpu1", "Give a child a new process once it is idle."),
        ("ollamactl restart --rolling", "Take a new ollama program into use, and keep serving meanwhile."),
        ("ollamactl load llama3.2:3b --replicas 2", "Have a model on two children."),
        ("ollamactl --json status | jq .children[].phase", "The same facts for programs."),
    ):
        yield from (".TP", f"\\fB{_escaped(example)}\\fR", meaning)


def _sentence(text: str) -> str:
    return _escaped(f"{text[0].upper()}{text[1:]}.".replace("..", "."))


def _escaped(text: str) -> str:
    """Text in which troff sees no commands."""
    plain = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{plain}" if plain.startswith((".", "'")) else plain
