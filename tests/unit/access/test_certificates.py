"""Certificates: what can be used, what to do about what can't, and that newer ones are taken into use."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from ollamad.access.access import Access
from ollamad.access.certificates import Certificates
from ollamad.config.schema import Config, Proxy
from ollamad.errors import ConfigError
from tests.support.tls import Pair, make_pair


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return make_pair(tmp_path, "one")


def refusal(certificate: Path, key: Path) -> tuple[str, str]:
    with pytest.raises(ConfigError) as caught:
        Certificates("proxy", certificate, key)
    (problem,) = caught.value.problems
    return problem.key, problem.message


def test_no_older_protocol_than_tls_1_2_is_spoken(pair: Pair) -> None:
    context = Certificates("proxy", pair.certificate, pair.key).context
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_files_that_are_not_there_say_so(pair: Pair, tmp_path: Path) -> None:
    assert refusal(tmp_path / "none", pair.key) == ("proxy.tls_certificate", "is not there")
    assert refusal(pair.certificate, tmp_path / "none") == ("proxy.tls_key", "is not there")


def test_a_key_that_everybody_can_read_is_refused_with_what_to_type(pair: Pair) -> None:
    pair.key.chmod(0o644)
    key, message = refusal(pair.certificate, pair.key)
    assert (key, f"chmod 600 {pair.key}" in message) == ("proxy.tls_key", True)
    pair.key.chmod(0o640)
    Certificates("proxy", pair.certificate, pair.key)


def test_a_key_of_another_certificate_is_told(pair: Pair, tmp_path: Path) -> None:
    other = make_pair(tmp_path, "two")
    key, message = refusal(pair.certificate, other.key)
    assert key == "proxy.tls_certificate"
    assert "mismatch" in message


def test_what_is_no_certificate_is_told(pair: Pair) -> None:
    pair.certificate.write_text("hello")
    assert refusal(pair.certificate, pair.key)[0] == "proxy.tls_certificate"


def test_a_key_with_a_passphrase_is_told_and_nobody_is_asked_for_it(tmp_path: Path) -> None:
    pair = make_pair(tmp_path, "one", protected=True)
    assert "openssl pkey" in refusal(pair.certificate, pair.key)[1]


async def test_bad_newer_files_change_nothing_and_are_told_once(pair: Pair) -> None:
    config = Config(proxy=Proxy(tls_certificate=str(pair.certificate), tls_key=str(pair.key)))
    access = Access(config, "/")
    context = access.proxy_tls
    pair.certificate.write_text("hello")
    with pytest.raises(ConfigError):
        access.reread(lambda: config)()
    access.renew()
    await access.look()
    await access.look()
    assert access.proxy_tls is context
    assert access.status_tls is None
