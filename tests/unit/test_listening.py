from __future__ import annotations

import socket

import pytest

from ollamad.config.address import Address
from ollamad.errors import ConfigError
from ollamad.listening import address_of, why_never_ours


def bound(host: str) -> socket.socket:
    """A socket with an address, which does not listen."""
    one = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    one.bind((host, 0))
    return one


def test_a_socket_that_is_handed_over_goes_before_the_address_that_is_set() -> None:
    with bound("127.0.0.1") as one:
        port = one.getsockname()[1]
        assert str(address_of("proxy.listen", "127.0.0.1:11434", [one])) == f"127.0.0.1:{port}"
    assert str(address_of("proxy.listen", "127.0.0.1:11434", [])) == "127.0.0.1:11434"


@pytest.mark.parametrize("listen", ["127.0.0.1:1", "localhost:1", "[::1]:1"])
def test_no_socket_opens_what_the_configuration_keeps_to_this_machine(listen: str) -> None:
    with bound("127.0.0.1") as first, bound("0.0.0.0") as second:
        with pytest.raises(ConfigError) as caught:
            address_of("proxy.listen", listen, [first, second])
        (problem,) = caught.value.problems
        assert problem.key == "proxy.listen"
        assert "0.0.0.0" in problem.message


def test_what_the_configuration_opens_a_socket_may_open() -> None:
    with bound("0.0.0.0") as one:
        assert address_of("proxy.listen", "0.0.0.0:11434", [one]).host == "0.0.0.0"


def test_an_address_of_no_machine_here_is_never_ours_and_one_that_is_taken_may_be_later() -> None:
    assert "can't be listened on" in (why_never_ours(Address("192.0.2.1", 11434)) or "")
    with bound("127.0.0.1") as one:
        one.listen()
        assert why_never_ours(Address("127.0.0.1", one.getsockname()[1])) is None
    assert why_never_ours(Address("127.0.0.1", 0)) is None
