from __future__ import annotations

from pathlib import Path

import pytest

from ollamad.demo.parts import check_platform, default_cache
from ollamad.errors import StartError


@pytest.mark.parametrize("version", ["2.28", "2.36", "3.0"])
def test_linux_on_x86_64_with_a_glibc_of_this_decade_will_do(version: str) -> None:
    check_platform("Linux", "x86_64", ("glibc", version))


@pytest.mark.parametrize(
    ("system", "machine", "libc"),
    [
        ("Linux", "aarch64", ("glibc", "2.36")),
        ("Linux", "x86_64", ("", "")),
        ("Linux", "x86_64", ("glibc", "2.27")),
        ("Darwin", "x86_64", ("", "")),
    ],
)
def test_any_other_machine_is_told_what_it_lacks(system: str, machine: str, libc: tuple[str, str]) -> None:
    with pytest.raises(StartError, match=rf"x86-64 with glibc 2\.28.*this is {system} on {machine}.*Install Ollama"):
        check_platform(system, machine, libc)


def test_the_cache_is_where_the_user_keeps_caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    for unusable in ("", "relative/path"):
        monkeypatch.setenv("XDG_CACHE_HOME", unusable)
        assert default_cache() == Path("/home/ada/.cache/ollamad")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "ollamad"
