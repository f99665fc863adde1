"""Certificates: what can be used, what to do about what can't, and that newer ones are taken into use."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import structlog

from ollamad.access.access import Access, examine
from ollamad.access.certificates import Certificates
from ollamad.config.schema import Access as AccessSettings
from ollamad.config.schema import Config, Proxy, Status
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


def test_what_clients_would_refuse_is_told_whoever_signed_it_and_used_all_the_same(tmp_path: Path, pair: Pair) -> None:
    over = make_pair(tmp_path, "over", over=True)
    for_clients = make_pair(tmp_path, "clients", usage="clientAuth")
    doubts = [Certificates("proxy", one.certificate, one.key).doubt() for one in (pair, over, for_clients)]
    assert doubts[0] is None
    assert doubts[1] is not None
    assert "certificate has expired" in doubts[1]
    assert doubts[2] is not None
    assert "purpose" in doubts[2]


def test_a_chain_is_believed_for_what_its_first_is(tmp_path: Path, pair: Pair) -> None:
    over = make_pair(tmp_path, "over", over=True)
    chain = tmp_path / "chain.pem"
    chain.write_text(pair.certificate.read_text() + over.certificate.read_text())
    assert Certificates("proxy", chain, pair.key).doubt() is None


def test_a_certificate_that_clients_refuse_is_told_at_start_and_when_it_is_renewed(tmp_path: Path, pair: Pair) -> None:
    over = make_pair(tmp_path, "over", over=True)
    config = Config(proxy=Proxy(tls_certificate=str(over.certificate), tls_key=str(over.key)))
    with structlog.testing.capture_logs() as logs:
        Access(config, str(tmp_path))
    assert [(line["event"], line["listener"]) for line in logs] == [("clients refuse the certificate", "proxy")]
    held = Certificates("proxy", pair.certificate, pair.key)
    pair.certificate.write_bytes(over.certificate.read_bytes())
    pair.key.write_bytes(over.key.read_bytes())
    with structlog.testing.capture_logs() as logs:
        held.read()()
    assert [line["event"] for line in logs] == ["certificate renewed", "clients refuse the certificate"]


def test_all_files_that_cannot_be_used_are_told_at_once(tmp_path: Path, pair: Pair) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text("keys = 1")
    keys.chmod(0o600)
    config = Config(
        proxy=Proxy(tls_certificate=str(tmp_path / "none"), tls_key=str(pair.key)),
        status=Status(tls_certificate=str(pair.certificate), tls_key=str(tmp_path / "none")),
        access=AccessSettings(keys_file=str(keys)),
    )
    with pytest.raises(ConfigError) as caught:
        Access(config, str(tmp_path))
    told = [problem.key for problem in caught.value.problems]
    assert told == ["proxy.tls_certificate", "status.tls_key", "access.keys_file"]
    assert [problem.key for problem in examine(config, str(tmp_path))[0]] == told
