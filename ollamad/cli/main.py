"""`ollamad serve|check|demo|install-service|uninstall-service`.

Exit codes: 0 done, 1 failed (the reason is on stderr), 2 usage or configuration, 130 interrupted before it served.
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import gc
import os
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from ollamad import __version__, daemon, log
from ollamad.cli.check import check
from ollamad.cli.service import add_commands
from ollamad.config import Loaded, Setting, load, parse_flag, read
from ollamad.config.load import from_environment
from ollamad.config.render import render_example
from ollamad.demo import real, simulated
from ollamad.demo.stage import stage
from ollamad.demo.traffic import Traffic, parse_rate
from ollamad.errors import ConfigError, StartError

SYSTEM_CONFIG: Final = Path("/etc/ollamad/config.toml")
FAILED: Final = 1
USAGE: Final = 2
INTERRUPTED: Final = 130
NEW_OBJECTS: Final = 10_000
"""So many objects more than before make the garbage collector look for cycles. At Python's 700 it does so at every
tenth request and takes 7 % of each; nothing here makes cycles by the thousand."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; gives its exit code."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.command(options))
    except ConfigError as error:
        number = len(error.problems)
        print(f"ollamad: {number} problem{'s' * (number != 1)} in the configuration:", file=sys.stderr)
        for problem in error.problems:
            print(f"  {problem}", file=sys.stderr)
        return USAGE
    except StartError as error:
        print(f"ollamad: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:  # before the daemon minds signals itself: while it gets or looks for something
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ollamad", description="One Ollama endpoint over all the GPUs of this host.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"ollamad {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    serve = commands.add_parser("serve", allow_abbrev=False, help="run the daemon in the foreground")
    serve.set_defaults(command=_serve)
    checking = commands.add_parser(
        "check", allow_abbrev=False, help="check the configuration and print what is in force; starts nothing"
    )
    checking.set_defaults(command=_check)
    checking.add_argument("--example", action="store_true", help="print an example file with every key instead")
    demo = commands.add_parser(
        "demo", allow_abbrev=False, help="see it at work: four simulated GPUs and traffic; needs nothing"
    )
    demo.set_defaults(command=_demo)
    demo.add_argument(
        "--real", action="store_true", help="with a real Ollama and a small model, downloaded where there are none"
    )
    demo.add_argument(
        "--traffic", metavar="RATE", type=_rate, default=3.0, help="requests it sends itself: 5/s, 30/min, 0 for none"
    )
    demo.add_argument("--seed", metavar="N", type=int, default=1, help="what the traffic's luck begins with")
    checking.add_argument("--quiet", action="store_true", help="print nothing where nothing is wrong")
    add_commands(commands)
    for command in (serve, checking, demo):
        command.add_argument(
            "--config",
            metavar="FILE",
            type=Path,
            help=f"the configuration; else $OLLAMAD_CONFIG, else {SYSTEM_CONFIG} where it exists",
        )
        command.add_argument(
            "--set",
            metavar="TABLE.KEY=VALUE",
            action="append",
            default=[],
            dest="flags",
            help="set one key, before environment and file; may be given again",
        )
    return parser


def _rate(text: str) -> float:
    try:
        return parse_rate(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _serve(options: argparse.Namespace) -> int:
    loaded = _loaded(options)
    log.set_up(loaded.config.log)
    faulthandler.enable()  # where it stood is told when systemd's watchdog ends it
    _run(daemon.run(loaded.config, reread=lambda: _loaded(options).config))
    return 0


def _run(main: Coroutine[Any, Any, None]) -> None:
    """Run it on the fastest event loop that is installed, with a garbage collector that looks only at what is new."""
    factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    with suppress(ImportError):  # it is for Linux, and not everywhere there
        from uvloop import new_event_loop as factory  # noqa: PLC0415
    gc.freeze()  # what is imported stays: looking through it takes 10 ms, in which no token passes
    gc.set_threshold(NEW_OBJECTS)
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main)


def _check(options: argparse.Namespace) -> int:
    if options.example:
        text = render_example()
    else:
        of_service = _file_of(options) == SYSTEM_CONFIG
        text = check(lambda: _loaded(options), of_service=of_service, quiet=options.quiet)
    print("" if options.quiet else text, end="")
    return 0


def _demo(options: argparse.Namespace) -> int:
    return _demo_real(options) if options.real else _demo_simulated(options)


def _demo_simulated(options: argparse.Namespace) -> int:
    """Only a file and flags that are named count: what this machine is set to is about its own GPUs."""
    with stage() as staged:

        def loaded() -> Loaded:
            named = read(options.config) if options.config else ()
            return load(staged.settings, named, map(parse_flag, options.flags), home=str(Path.home()))

        config = loaded().config
        log.set_up(config.log)
        _run(
            simulated.run(
                config,
                staged.driver,
                Traffic(options.traffic, options.seed),
                lambda listening: print(simulated.banner(listening), flush=True),
                lambda: loaded().config,
            )
        )
    return 0


def _demo_real(options: argparse.Namespace) -> int:
    prepared = real.prepare(_loaded(options), lambda line: print(line, flush=True))
    loaded = _loaded(options, prepared.settings)
    log.set_up(loaded.config.log)
    _run(
        daemon.run(
            loaded.config,
            lambda listening: print(real.banner(listening, prepared.model), flush=True),
            lambda: _loaded(options, prepared.settings).config,
        )
    )
    return 0


def _loaded(options: argparse.Namespace, low: tuple[Setting, ...] = ()) -> Loaded:
    """The configuration from all its sources; `low` ranks below them all."""
    path = _file_of(options)
    return load(
        low,
        read(path) if path else (),
        from_environment(os.environ),
        tuple(parse_flag(flag) for flag in options.flags),
        home=str(Path.home()),
    )


def _file_of(options: argparse.Namespace) -> Path | None:
    """The configuration file that counts; None where there is none."""
    named = options.config or os.environ.get("OLLAMAD_CONFIG")
    return Path(named) if named else SYSTEM_CONFIG if SYSTEM_CONFIG.exists() else None
