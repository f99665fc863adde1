"""What is told of where a child's models are."""

from __future__ import annotations

import pytest

from ollamad.fleet.bell import Bell
from ollamad.fleet.known import Known
from ollamad.supervision.pinning import Pinning, Proof

CPU, WRONG, PROVEN, UNPROVEN, NOTHING = (
    Proof.ON_CPU,
    Proof.WRONG_GPU,
    Proof.PROVEN,
    Proof.UNPROVEN,
    Proof.NOTHING_LOADED,
)


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
