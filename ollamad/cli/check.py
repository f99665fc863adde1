"""`ollamad check`: all that `serve` would refuse, found out without starting or making anything.

A configuration of the service is looked at with the eyes of the service's user, since what root may read says nothing.
"""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from ollamad.access.access import examine
from ollamad.config import Config, Loaded
from ollamad.config.address import parse_address
from ollamad.config.render import render_effective
from ollamad.control.claim import why_unusable
from ollamad.control.face import socket_of
from ollamad.errors import ConfigError, Problem, StartError
from ollamad.listening import why_never_ours
from ollamad.ollama.program import find_program
from ollamad.systemd.machine import service_user

ROOT: Final = 0


def check(load: Callable[[], Loaded], *, of_service: bool, quiet: bool) -> str:
    """What is in force, as text; doubts go to stderr. `of_service`: it is the service's configuration.

    Raises ConfigError with every problem.
    """
    user = service_user() if of_service else None
    told = _as_service(user) if user else ""
    print("" if quiet else told, end="", file=sys.stderr)
    loaded = load()
    problems, doubts = find(loaded.config, loaded.origins, str(Path.home()), sockets_are_given=user is not None)
    if problems:
        raise ConfigError(tuple(problems))
    for doubt in doubts:
        print(f"ollamad: warning: {doubt}", file=sys.stderr)
    try:
        find_program(loaded.config.ollama.binary, os.environ.get("PATH"))
    except StartError as error:  # it may be checked on another machine than it is for
        print(f"ollamad: the configuration is good, but nothing would start here: {error}", file=sys.stderr)
    return render_effective(loaded)


def find(
    config: Config, origins: Mapping[str, str], home: str, *, sockets_are_given: bool
) -> tuple[list[Problem], list[Problem]]:
    """What `serve` would refuse of a configuration whose keys are each valid, and what it would only warn of.

    With `sockets_are_given` systemd opens the sockets for clients and for operators. An address that is in use is no
    problem: by ollamad itself, as a rule.
    """
    problems, doubts = examine(config, home)
    listens = {"status.listen": config.status.listen, "status.agent_listen": config.status.agent_listen}
    if not sockets_are_given:
        listens["proxy.listen"] = config.proxy.listen
        path = socket_of(config.control)
        if why := why_unusable(path):
            problems.append(Problem("control.socket", why, str(path)))
    for key, text in listens.items():
        if text and (why := why_never_ours(parse_address(text))):
            problems.append(Problem(key, why, text))
    return _with_origins(problems, origins), _with_origins(doubts, origins)


def _with_origins(problems: list[Problem], origins: Mapping[str, str]) -> list[Problem]:
    return [replace(one, origin=origins.get(one.key, "default")) for one in problems]


def _as_service(user: pwd.struct_passwd) -> str:
    """Be the service's user from now on, where that is allowed; gives the line that says whose eyes these are."""
    if os.geteuid() not in {ROOT, user.pw_uid}:
        me = pwd.getpwuid(os.geteuid()).pw_name
        return f"ollamad: looked at as {me}; the service runs as {user.pw_name}, which `sudo ollamad check` looks at\n"
    if os.geteuid() == ROOT and user.pw_uid != ROOT:
        os.initgroups(user.pw_name, user.pw_gid)
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)
    os.environ["HOME"] = user.pw_dir  # as systemd sets it
    return f"ollamad: looked at as {user.pw_name}, the service's user\n"
