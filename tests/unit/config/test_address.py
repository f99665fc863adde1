from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamad.config.address import PORT_MAX, Address, parse_address

PORTS = st.integers(0, PORT_MAX)
HOSTS = (
    st.ip_addresses().map(str)
    | st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,10}[a-z0-9])?", fullmatch=True)
    | st.just("fe80::1%eth0")
)


@given(HOSTS, PORTS)
def test_an_address_reads_back_from_its_own_text(host: str, port: int) -> None:
    assert parse_address(str(Address(host, port))) == Address(host, port)


@given(st.text(max_size=20) | st.builds("{}:{}".format, st.text(st.sampled_from("[]:a1./ \0"), max_size=6), PORTS))
def test_any_text_is_an_address_that_reads_back_or_is_refused_with_a_reason(text: str) -> None:
    found = outcome(text)
    if isinstance(found, ValueError):
        assert str(found).startswith(("an IPv6", "expected", "the port"))
    else:
        assert parse_address(str(found)) == found
        assert found.host
        assert found.host.isprintable()
        assert not set(found.host) & set("[]/ ")
        assert 0 <= found.port <= PORT_MAX


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:11434", Address("127.0.0.1", 11434)),
        ("[::1]:0", Address("::1", 0)),
        ("my-host.example:65535", Address("my-host.example", 65535)),
        ("BOX:1", Address("BOX", 1)),
    ],
)
def test_addresses_of_each_kind_are_read(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    "text", ["", "host", ":80", "[]:80", "a b:80", " host:80", "http://host:80", "[[::1]]:80", "a\0:80"]
)
def test_what_is_no_host_and_port_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r'(expected "HOST:PORT"|an IPv6 address stands in brackets)'):
        parse_address(text)


@pytest.mark.parametrize("text", ["::1:80", "fe80::1:11434", "[::1:80", "::1]:80"])
def test_an_ipv6_address_without_its_brackets_is_told_so(text: str) -> None:
    with pytest.raises(ValueError, match=r"stands in brackets: \"\[::1\]:11434\""):
        parse_address(text)


@pytest.mark.parametrize("port", ["", "x", "-1", "65536", "8 0", "٣", "+80", "9" * 5_000])
def test_a_port_out_of_range_is_told_the_range(port: str) -> None:
    with pytest.raises(ValueError, match=r"^the port must be a number from 0 to 65535$"):
        parse_address(f"host:{port}")


def outcome(text: str) -> Address | ValueError:
    try:
        return parse_address(text)
    except ValueError as error:
        return error
