"""A lease whose child hangs: what may go elsewhere, and what may not."""

from __future__ import annotations

from ollamad.fleet.lease import Lease
from ollamad.routing.request import Need, Request


def lease() -> Lease:
    return Lease("gpu0", 1, "http://127.0.0.1:1", 0, "m", 0.0, Request(Need.RUNNER, "m"))


def test_what_waits_is_moved_with_the_reason() -> None:
    one, told = lease(), list[str]()
    one.may_move = lambda: True
    one.waits(told.append)
    assert one.move("it hangs")
    assert told == ["it hangs"]


def test_what_has_begun_or_can_not_be_sent_again_or_has_nowhere_to_go_stays() -> None:
    told: list[str] = []
    begun, streamed, alone, unsent = lease(), lease(), lease(), lease()
    begun.may_move = unsent.may_move = lambda: True
    alone.may_move = lambda: False
    for one in (begun, streamed, alone):
        one.waits(told.append)
    begun.heard()
    assert not any(one.move("it hangs") for one in (begun, streamed, alone, unsent))
    assert told == []
