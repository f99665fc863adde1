from __future__ import annotations

import pytest

from ollamad.access import addresses
from ollamad.access.addresses import Addresses, Crowd, network_of


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("no:address", "no:address"),
    ],
)
def test_one_customer_is_one_client(address: str, network: str) -> None:
    assert network_of(address) == network


def test_each_address_has_its_own_minute() -> None:
    found = Addresses()
    assert [found.draw("a", 2, 0.0) > 0 for _ in range(3)] == [False, False, True]
    assert found.draw("b", 2, 0.0) == 0
    assert found.draw("a", 2, 30.0) == 0


def test_as_many_addresses_are_remembered_as_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "ADDRESSES_MAX", 3)
    found = Addresses()
    for address in ("a", "b", "c", "a", "d"):
        found.draw(address, 1, 0.0)
    assert len(found) == 3
    assert found.draw("b", 1, 0.0) == 0, "it is forgotten"
    assert found.draw("a", 1, 0.0) > 0, "it has asked since"


def test_a_crowd_is_counted_and_forgotten() -> None:
    crowd = Crowd()
    assert [crowd.enter("a"), crowd.enter("a"), crowd.enter("b")] == [1, 2, 1]
    for address in ("a", "a", "b"):
        crowd.leave(address)
    assert len(crowd) == 0
