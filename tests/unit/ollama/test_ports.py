from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from ollamad.errors import StartError
from ollamad.ollama.ports import PORTS_TRIED, free_port

NOBODY = frozenset[int]()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def port_of(server: socket.socket) -> int:
    port: int = server.getsockname()[1]
    return port


def test_a_port_that_nobody_listens_on_is_taken_as_it_is(listener: socket.socket) -> None:
    base = port_of(listener)
    listener.close()
    assert free_port(base, NOBODY) == base


def test_a_port_that_somebody_listens_on_is_passed_over(listener: socket.socket) -> None:
    base = port_of(listener)
    found = free_port(base, NOBODY)
    assert base < found < base + PORTS_TRIED
    socket.create_server(("127.0.0.1", found)).close()


def test_a_port_that_somebody_listens_on_at_every_address_is_passed_over() -> None:
    with socket.create_server(("0.0.0.0", 0)) as server:
        assert free_port(port_of(server), NOBODY) > port_of(server)


def test_a_port_that_a_sibling_has_is_passed_over_though_the_sibling_does_not_listen_yet(
    listener: socket.socket,
) -> None:
    base = port_of(listener)
    siblings = frozenset(range(base + 1, base + 6))
    assert free_port(base, siblings) > max(siblings)


def test_connections_of_a_predecessor_that_linger_are_no_obstacle(listener: socket.socket) -> None:
    base = port_of(listener)
    with socket.create_connection(("127.0.0.1", base)) as client:
        served, _ = listener.accept()
        served.close()  # the side that closes first is the one that lingers
        assert client.recv(1) == b""
    listener.close()
    assert free_port(base, NOBODY) == base


def test_when_no_port_is_left_the_start_fails_with_the_key_that_chooses_others() -> None:
    with pytest.raises(StartError, match=r"no free port from 20000 to 20499 .*base_port"):
        free_port(20_000, frozenset(range(20_000, 20_000 + PORTS_TRIED)))
