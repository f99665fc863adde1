"""How a command can end otherwise than well, by exit code."""

from __future__ import annotations

from typing import Final

DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
NO_DAEMON: Final = 3
INTERRUPTED: Final = 130


class CommandError(Exception):
    """A command that can't be done. Its text says why, and what to do."""

    code = FAILED


class NoDaemon(CommandError):
    """Nothing answers at the control socket."""

    code = NO_DAEMON


class Usage(CommandError):
    """What was typed can't be meant."""

    code = USAGE
