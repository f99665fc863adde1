"""What is known of a child's process: what it says of the wall clock, on ours; what is told of where its models are."""

from __future__ import annotations

import pytest

from ollamad.fleet.bell import Bell
from ollamad.fleet.known import Known
from ollamad.routing.snapshot import Resident
from ollamad.supervision.pinning import Pinning, Proof

CPU, WRONG, PROVEN, UNPROVEN, NOTHING = (
    Proof.ON_CPU,
    Proof.WRONG_GPU,
    Proof.PROVEN,
    Proof.UNPROVEN,
    Proof.NOTHING_LOADED,
)
AT_TWELVE = "2026-11-24T12:00:00Z"


def test_a_keep_alive_ends_when_it_was_first_said_to_though_the_wall_clock_is_set_since() -> None:
    known = Known(Bell())
    known.see((Resident("m:latest", 1, 1, AT_TWELVE, 300.0),))
    known.see((Resident("m:latest", 1, 1, AT_TWELVE, -3300.0),))  # set on by an hour, or the machine has slept so long
    assert [one.expires_s for one in known.residents] == [300.0]
    known.see(
        (Resident("m:latest", 1, 1, "2026-11-24T13:30:00Z", 500.0), Resident("n:latest", 1, 1, AT_TWELVE, -3300.0))
    )
    assert [one.expires_s for one in known.residents] == [500.0, -3300.0]


def test_a_model_that_stays_has_no_end() -> None:
    known = Known(Bell())
    known.see((Resident("m:latest", None, None, None),))
    known.see((Resident("m:latest", 1, 1, None, None),))
    assert known.residents == (Resident("m:latest", 1, 1, None, None),)


@pytest.mark.parametrize(
    ("found", "news"),
    [
        ([PROVEN, PROVEN], [None, None]),
        ([CPU, CPU], [True, None]),
        ([CPU, UNPROVEN, CPU], [True, None, None]),
        ([CPU, NOTHING, CPU], [True, None, None]),
        ([CPU, WRONG], [True, True]),
        ([CPU, UNPROVEN, PROVEN, PROVEN, CPU], [True, None, False, None, True]),
    ],
)
def test_a_fault_is_told_once_and_ends_only_where_the_contrary_is_proven(
    found: list[Proof], news: list[bool | None]
) -> None:
    known = Known(Bell())
    assert [known.news_of(Pinning(proof, "")) for proof in found] == news
