"""The parser's tree, looked at: what completions and the manual page are drawn from."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping


def commands_of(tree: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    """Each command's own parser."""
    for action in tree._actions:  # noqa: SLF001 - argparse shows its tree nowhere else
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            return dict(action.choices)
    return {}


def abouts_of(tree: argparse.ArgumentParser) -> Mapping[str, str]:
    """Each command's line of help."""
    for action in tree._actions:  # noqa: SLF001
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            return {choice.dest: str(choice.help) for choice in action._choices_actions}  # noqa: SLF001
    return {}


def options_of(command: argparse.ArgumentParser) -> list[argparse.Action]:
    """What starts with a dash."""
    return [action for action in command._actions if action.option_strings]  # noqa: SLF001


def places_of(command: argparse.ArgumentParser) -> list[argparse.Action]:
    """What is known by its place."""
    return [
        action
        for action in command._actions  # noqa: SLF001
        if not action.option_strings and not isinstance(action, argparse._SubParsersAction)  # noqa: SLF001
    ]


def takes_value(action: argparse.Action) -> bool:
    """Whether the word after this option belongs to it, whatever it is."""
    return bool(action.option_strings) and action.nargs is None


def leaves_of(tree: argparse.ArgumentParser, before: str = "") -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    """Every command that does something, as it is typed, with its line of help: `key create`, not `key`."""
    abouts = abouts_of(tree)
    for name, command in commands_of(tree).items():
        if commands_of(command):
            yield from leaves_of(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", abouts[name], command
