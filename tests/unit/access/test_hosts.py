"""The `Host` check, as Ollama does it (0.33, server/routes.go:1803), and the names that an operator adds."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamad.access.hosts import host_is_allowed, own_addresses
from ollamad.config.address import Address

LOOPBACK = Address("127.0.0.1", 11434)
LOOPBACKS = (LOOPBACK, Address("127.8.8.8", 1), Address("::1", 11434), Address("localhost", 11434))
WIDE = (Address("0.0.0.0", 11434), Address("::", 11434), Address("192.168.1.5", 11434), Address("gpu-host", 11434))

OURS = (
    "",
    "localhost",
    "LocalHost",
    "127.0.0.1",
    "127.5.5.5",
    "0.0.0.0",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.5",
    "[::1]",
    "[fd00::5]",
    "[::]",
    "app.localhost",
    "printer.local",
    "host.docker.internal",
    socket.gethostname(),
)
FOREIGN = (
    "evil.example",
    "example.com",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "evillocalhost",
    "evil-local",
    "local",
    "8.8.8.8",
    "[2606:4700::1111]",
    "user@localhost.example",
    "localhost:http",
    "11434",
)


@pytest.mark.parametrize("listen", LOOPBACKS)
@pytest.mark.parametrize("host", OURS)
def test_on_loopback_names_and_addresses_of_this_machine_and_its_networks_are_served(
    host: str, listen: Address
) -> None:
    assert host_is_allowed(host, listen, ())
    assert host_is_allowed(f"{host}:11434", listen, ())


@pytest.mark.parametrize("listen", LOOPBACKS)
@pytest.mark.parametrize("host", FOREIGN)
def test_on_loopback_a_name_that_somebody_else_may_point_here_is_refused(host: str, listen: Address) -> None:
    assert not host_is_allowed(host, listen, ())
    assert not host_is_allowed(f"{host}:11434", listen, ())
    assert not host_is_allowed(host, listen, ("other.example", "evil", "example", ".example"))


@pytest.mark.parametrize("listen", WIDE)
@pytest.mark.parametrize("host", [*OURS, *FOREIGN])
def test_who_listens_to_the_network_is_reached_by_any_name(host: str, listen: Address) -> None:
    assert host_is_allowed(host, listen, ())


@pytest.mark.parametrize(
    "host", ["ollama.example", "ollama.example:80", "OLLAMA.example", "ollama.example.", "ollama.example.:80"]
)
def test_a_name_that_the_operator_allows_is_served_however_it_is_written(host: str) -> None:
    assert host_is_allowed(host, LOOPBACK, ("a", "Ollama.Example"))


@given(st.text(max_size=20))
def test_a_star_allows_every_name(host: str) -> None:
    assert host_is_allowed(host, LOOPBACK, ("*",))


@given(st.from_regex(r"[a-z0-9.-]{1,12}\.(com|example|org)", fullmatch=True), st.integers(0, 65_535))
def test_no_name_of_the_public_internet_is_served_on_loopback(name: str, port: int) -> None:
    assert not host_is_allowed(name, LOOPBACK, ())
    assert not host_is_allowed(f"{name}:{port}", LOOPBACK, ())


def test_the_name_of_this_machine_is_served_however_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "GPU-Host")
    assert host_is_allowed("gpu-host", LOOPBACK, ())
    assert host_is_allowed("GPU-HOST:11434", LOOPBACK, ())
    assert not host_is_allowed("gpu-host.example", LOOPBACK, ())


@pytest.mark.parametrize("host", ["localhost.", "localhost.:80", "app.localhost."])
def test_a_name_with_the_dot_of_the_root_is_the_same_name(host: str) -> None:
    assert host_is_allowed(host, LOOPBACK, ())


@given(st.text(max_size=20), st.sampled_from([*LOOPBACKS, *WIDE]))
def test_any_text_gets_an_answer(host: str, listen: Address) -> None:
    assert host_is_allowed(host, listen, (host,)) in {True, False}


@pytest.mark.parametrize("entry", ["Chat.Example.com", "chat.example.com.", "chat.example.com:8080"])
def test_a_name_is_allowed_however_the_operator_wrote_it(entry: str) -> None:
    assert host_is_allowed("chat.example.com:11434", LOOPBACK, (entry,))


def test_this_machine_s_own_addresses_are_known() -> None:
    assert "127.0.0.1" in own_addresses()
    assert host_is_allowed("[2606:4700::1111]:80", LOOPBACK, ("2606:4700::1111",))
