"""Who may change things."""

from __future__ import annotations

import os

import pytest

from ollamad.config.schema import Control
from ollamad.control.access import access_of, ownership_of, user_name
from ollamad.control.claim import Peer

STRANGER = 4_000_000


def may_change(settings: Control, uid: int) -> bool:
    return access_of(settings).may_change(Peer(1, uid, uid))


@pytest.mark.parametrize("uid", [0, os.geteuid()])
def test_root_and_the_daemons_own_user_may_change_things(uid: int) -> None:
    assert may_change(Control(), uid)


def test_who_is_merely_allowed_to_connect_may_not_unless_it_is_said() -> None:
    assert not may_change(Control(), STRANGER)
    assert may_change(Control(operators=(str(STRANGER),)), STRANGER)
    assert may_change(Control(owner=str(STRANGER)), STRANGER)
    assert may_change(Control(group_may_change=True), STRANGER)


def test_a_refusal_names_who_is_refused_and_who_may() -> None:
    said = access_of(Control(operators=("12345",))).refusal(Peer(1, STRANGER, 0))
    assert said.startswith(f"uid {STRANGER} may look, but not change things; ")
    assert "root" in said
    assert "uid 12345" in said


def test_names_are_read_as_numbers() -> None:
    made = ownership_of(Control(owner="root", group="0", mode="640"))
    assert (made.owner, made.group, made.mode) == (0, 0, 0o640)
    assert (ownership_of(Control()).owner, ownership_of(Control()).mode) == (-1, 0o660)


def test_a_user_without_a_name_is_told_by_number() -> None:
    assert user_name(0) == "root"
    assert user_name(STRANGER) == f"uid {STRANGER}"
