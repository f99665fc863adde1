"""An address beyond this machine is open to strangers only where that has been said."""

from __future__ import annotations

import pytest

from ollamad.config.address import parse_address
from tests.unit.config.loading import loaded, problems

WIDE = ["0.0.0.0:1", "[::]:1", "192.168.1.5:1", "gpu-host:1", "8.8.8.8:1"]
NARROW = ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1"]
KEYS = ("access.keys_file", "/etc/ollamad/keys.toml")


@pytest.mark.parametrize("table", ["proxy", "status"])
@pytest.mark.parametrize("listen", WIDE)
def test_a_wide_address_needs_keys_or_a_word_that_it_needs_none(table: str, listen: str) -> None:
    (problem,) = problems((f"{table}.listen", listen))
    assert (problem.key, problem.value) == (f"{table}.listen", f'"{listen}"')
    for way_out in ("ollamactl key create", "access.keys_file", f"{table}.allow_unauthenticated = true", "127.0.0.1"):
        assert way_out in problem.message
    loaded((f"{table}.listen", listen), KEYS)
    loaded((f"{table}.listen", listen), (f"{table}.allow_unauthenticated", True))


@pytest.mark.parametrize(
    ("table", "done"), [("proxy", "use it, and delete models"), ("status", "see what this machine does")]
)
def test_it_says_what_strangers_could_do(table: str, done: str) -> None:
    assert problems((f"{table}.listen", WIDE[0]))[0].message.startswith(
        f"lets whoever reaches this address {done}: set access.keys_file "
    )


@pytest.mark.parametrize("listen", NARROW)
def test_loopback_needs_none(listen: str) -> None:
    assert parse_address(listen).is_loopback
    loaded(("proxy.listen", listen))


def test_everybody_needs_a_key_or_nobody() -> None:
    (problem,) = problems(KEYS, ("proxy.allow_unauthenticated", True))
    assert (problem.key, problem.value) == ("proxy.allow_unauthenticated", "true")
    assert problem.message == (
        "says that nobody needs a key, and access.keys_file that everybody does: take one of them away"
    )
    loaded(KEYS, ("status.allow_unauthenticated", True), ("status.listen", "0.0.0.0:1"))


@pytest.mark.parametrize("table", ["proxy", "status"])
@pytest.mark.parametrize(("one", "other"), [("tls_certificate", "tls_key"), ("tls_key", "tls_certificate")])
def test_a_certificate_and_its_key_come_together(table: str, one: str, other: str) -> None:
    (problem,) = problems((f"{table}.{one}", "/a.pem"))
    assert (problem.key, problem.value) == (f"{table}.{one}", '"/a.pem"')
    assert problem.message == f"needs {table}.{other}, too"
    loaded((f"{table}.{one}", "/a.pem"), (f"{table}.{other}", "~/b.pem"))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("keys.toml", '"keys.toml"', "must be an absolute path, or start with ~"),
        ("/a\0b", '"/a\\u0000b"', "holds a NUL character, which no path can"),
    ],
)
def test_files_have_whole_paths(path: str, value: str, message: str) -> None:
    found = problems(("access.keys_file", path), ("proxy.tls_certificate", path), ("proxy.tls_key", path))
    told = {problem.key: (problem.value, problem.message) for problem in found}
    assert told == dict.fromkeys(("access.keys_file", "proxy.tls_certificate", "proxy.tls_key"), (value, message))
