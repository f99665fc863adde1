from __future__ import annotations

import msgspec

from tests.support.scene import child, fleet


def test_another_child_is_one_that_takes_requests_and_has_not_been_tried_in_this_life() -> None:
    down = child("down", trusted=False)
    a, b = child("a"), child("b")
    assert fleet(a, b, down).has_another(set())
    assert fleet(a, b, down).has_another({("a", 1)})
    assert not fleet(a, b, down).has_another({("a", 1), ("b", 1)})
    assert not fleet(down).has_another(set())
    assert not fleet().has_another(set())
    assert fleet(msgspec.structs.replace(a, life=2)).has_another({("a", 1)})
