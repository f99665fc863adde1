"""Users and groups of this machine, by name or number, as the configuration names them."""

from __future__ import annotations

import grp
import pwd
from typing import Final

DIGITS_MAX: Final = 9
"""Numbers that are longer don't fit, or mean "leave it as it is" (4294967295)."""


def user_number(name: str) -> int | None:
    """The number of a user; None where there is none of that name."""
    if _is_number(name):
        return int(name)
    try:
        return pwd.getpwnam(name).pw_uid
    except (KeyError, ValueError):
        return None


def group_number(name: str) -> int | None:
    """The number of a group; None where there is none of that name."""
    if _is_number(name):
        return int(name)
    try:
        return grp.getgrnam(name).gr_gid
    except (KeyError, ValueError):
        return None


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit() and len(name) <= DIGITS_MAX
