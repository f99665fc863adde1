"""`ollamactl`: parse, ask, print.

Exit codes: 0 done, 1 refused or failed (the reason is on stderr), 2 usage, 3 no daemon at that socket, 130 interrupted.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from contextlib import suppress

from ollamad.cli.ctl.context import Context, context_of
from ollamad.cli.ctl.errors import DONE, FAILED, INTERRUPTED, CommandError
from ollamad.cli.ctl.parser import parser

ENDLESS = frozenset({"watch", "follow"})
"""Options of commands that only an interrupt ends: then that is no failure."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; gives its exit code."""
    typed = list(sys.argv[1:] if arguments is None else arguments)
    if typed[:1] == ["__complete"]:
        from ollamad.cli.ctl.complete import complete  # noqa: PLC0415 - a shell asks, at each press of a key

        return complete(typed[1:])
    options, unknown = parser().parse_known_args(typed)
    if unknown:  # argparse would show the usage of the whole, not of the command
        options.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    module, _, function = options.runs.partition(":")
    run = getattr(importlib.import_module(f"ollamad.cli.ctl.{module}"), function)
    context = context_of(options)
    try:
        return int(run(context))
    except CommandError as error:
        print(f"ollamactl: {error}", file=sys.stderr)
        _tell_of_another_version(context)
        return error.code
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return DONE if any(vars(options).get(name) for name in ENDLESS) else INTERRUPTED
    except BrokenPipeError:  # who read our output, such as head, has had enough
        return _unheard()
    except OSError as error:  # it goes to a full disk; what a socket says is a CommandError
        print(f"ollamactl: the output can't be written: {error.strerror}", file=sys.stderr)
        return _unheard()


def _unheard() -> int:
    """Fail, and let what is still to be written at the exit go nowhere, so that this does not fail as well."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return FAILED


def _tell_of_another_version(context: Context) -> None:
    """It may be why a command failed: one daemon does not know yet what another does."""
    from ollamad.cli.ctl.show import other_version  # noqa: PLC0415 - only where something failed

    with suppress(CommandError):
        if told := other_version(context.status()):
            print(told, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
