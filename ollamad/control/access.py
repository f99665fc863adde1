"""Who may do what over the control socket. To connect is to be allowed to look; the socket's mode decides that."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass

from ollamad.config.accounts import group_number, user_number
from ollamad.config.schema import Control
from ollamad.control.claim import UNCHANGED, Ownership, Peer
from ollamad.control.place import ROOT


@dataclass(frozen=True, slots=True)
class Access:
    """Who may change things."""

    users: frozenset[int]
    everybody: bool = False
    """All who can connect at all."""

    def may_change(self, peer: Peer) -> bool:
        """Whether this peer may do more than look."""
        return self.everybody or peer.uid in self.users

    def refusal(self, peer: Peer) -> str:
        """Why it may not, and what to do."""
        allowed = ", ".join(sorted(map(user_name, self.users)))
        return (
            f"{user_name(peer.uid)} may look, but not change things; {allowed} may, with sudo for instance,"
            " and whom [control] operators names"
        )


def access_of(settings: Control) -> Access:
    """Who may change things by this configuration, which has been checked."""
    named = (user_number(name) for name in (settings.owner, *settings.operators) if name)
    users = frozenset({ROOT, os.geteuid(), *(number for number in named if number is not None)})
    return Access(users, everybody=settings.group_may_change)


def ownership_of(settings: Control) -> Ownership:
    """How the socket is to be made by this configuration, which has been checked."""
    owner = user_number(settings.owner) if settings.owner else None
    group = group_number(settings.group) if settings.group else None
    return Ownership(
        UNCHANGED if owner is None else owner, UNCHANGED if group is None else group, int(settings.mode, 8)
    )


def user_name(uid: int) -> str:
    """A user's name, or `uid 1000` where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
