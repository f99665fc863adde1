"""Who a request is from, by what the proxies before us say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamad.proxy.forwarded import TrustedProxies
from ollamad.upstream.head import Field

PROXIES = TrustedProxies(["127.0.0.0/8", "::1", "10.0.0.0/8"])
HOST = (b"Host", b"chat.example.com")


def read(peer: str, *fields: Field) -> tuple[str, dict[bytes, bytes]]:
    forwarding = PROXIES.read(peer, "http", [HOST, *fields])
    return forwarding.client, dict(forwarding.fields)


def test_a_client_of_our_own_is_who_its_connection_says() -> None:
    client, fields = read("192.0.2.9")
    assert client == "192.0.2.9"
    assert fields == {
        b"X-Forwarded-For": b"192.0.2.9",
        b"X-Forwarded-Host": b"chat.example.com",
        b"X-Forwarded-Proto": b"http",
        b"X-Real-IP": b"192.0.2.9",
    }


def test_nobody_who_is_not_trusted_is_believed() -> None:
    said = [(b"X-Forwarded-For", b"1.2.3.4"), (b"Forwarded", b"for=1.2.3.4"), (b"X-Forwarded-Proto", b"https")]
    assert read("192.0.2.9", *said) == read("192.0.2.9")


@pytest.mark.parametrize(
    ("said", "client"),
    [
        (b"192.0.2.7", "192.0.2.7"),
        (b"1.1.1.1, 192.0.2.7", "192.0.2.7"),
        (b"1.1.1.1, 192.0.2.7, 10.9.9.9", "192.0.2.7"),
        (b"10.1.1.1,10.2.2.2", "10.1.1.1"),
        (b"2001:db8::7", "2001:db8::7"),
        (b"192.0.2.7, unknown", "127.0.0.1"),
        (b"nonsense\xff", "127.0.0.1"),
        (b"", "127.0.0.1"),
        (b" , ", "127.0.0.1"),
    ],
)
def test_a_trusted_proxy_is_believed_as_far_as_the_first_that_is_not(said: bytes, client: str) -> None:
    assert read("127.0.0.1", (b"X-Forwarded-For", said))[0] == client


def test_what_a_trusted_proxy_says_is_passed_on_with_its_own_address() -> None:
    client, fields = read(
        "127.0.0.1",
        (b"x-forwarded-for", b"192.0.2.7"),
        (b"X-Forwarded-For", b"10.0.0.1"),
        (b"X-Forwarded-Proto", b"https"),
        (b"X-Forwarded-Host", b"front.example.com"),
    )
    assert client == "192.0.2.7"
    assert fields[b"X-Forwarded-For"] == b"192.0.2.7, 10.0.0.1, 127.0.0.1"
    assert (fields[b"X-Forwarded-Proto"], fields[b"X-Forwarded-Host"]) == (b"https", b"front.example.com")


@pytest.mark.parametrize(
    ("said", "client"),
    [
        (b"for=192.0.2.7;proto=https;by=10.0.0.1", "192.0.2.7"),
        (b'For="[2001:db8::7]:4711", for=10.0.0.1:80', "2001:db8::7"),
        (b"for=_hidden", "::1"),
    ],
)
def test_forwarded_is_read_where_there_is_nothing_else(said: bytes, client: str) -> None:
    found, fields = read("::1", (b"Forwarded", said))
    assert found == client
    assert fields[b"Forwarded"] == said + b', for="[::1]"'


@given(st.binary(max_size=60), st.sampled_from([b"X-Forwarded-For", b"Forwarded"]))
def test_whatever_is_said_the_client_is_an_address(said: bytes, name: bytes) -> None:
    client, _ = read("127.0.0.1", (name, said))
    assert PROXIES.trust(client) or "." in client or ":" in client
