"""Several hosts on one machine: network namespaces on one bridge, in which nothing of the outside can be reached."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import pytest

from tests.support.own_number import own_number

_CLONE_NEWNET: Final = 0x40000000
"""setns(2)."""
_IP: Final = shutil.which("ip") or shutil.which("ip", path="/usr/sbin:/sbin")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Host:
    """One namespace, and the address that the others reach it by."""

    name: str
    address: str

    def command(self, *words: str | Path) -> tuple[str | Path, ...]:
        """The command that runs another one there."""
        assert _IP is not None
        return (_IP, "netns", "exec", self.name, *words)

    def do(self, work: Callable[[], T]) -> T:
        """Do some blocking work whose sockets belong to this host."""
        with ThreadPoolExecutor(1, initializer=self._enter) as thread:
            return thread.submit(work).result()

    def _enter(self) -> None:
        """Move this thread; it is never moved back, and ends with its pool."""
        with Path(f"/run/netns/{self.name}").open() as file:
            if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")


@contextmanager
def network(addresses: Sequence[str]) -> Iterator[list[Host]]:
    """A bridge with a host for each address, the first one having the bridge. Raises RuntimeError where none can be."""
    if _IP is None:
        raise RuntimeError("this machine has no ip: apt-get install iproute2")
    if os.geteuid():
        raise RuntimeError("network namespaces take root")
    hosts = [Host(f"ollamad-{own_number()}-{number}", address) for number, address in enumerate(addresses)]
    bridge = hosts[0].name
    with ExitStack() as stack:
        for host in hosts:
            _ip("netns", "add", host.name)
            stack.callback(_ip, "netns", "del", host.name)
            _ip("-n", host.name, "link", "set", "lo", "up")
        _ip("-n", bridge, "link", "add", "bridge", "type", "bridge")
        _ip("-n", bridge, "addr", "add", f"{hosts[0].address}/24", "dev", "bridge")
        _ip("-n", bridge, "link", "set", "bridge", "up")
        for number, host in enumerate(hosts[1:], 1):
            _ip(
                "-n", bridge, "link", "add", f"port{number}", "type", "veth", "peer", "name", "eth0", "netns", host.name
            )
            _ip("-n", bridge, "link", "set", f"port{number}", "master", "bridge", "up")
            _ip("-n", host.name, "addr", "add", f"{host.address}/24", "dev", "eth0")
            _ip("-n", host.name, "link", "set", "eth0", "up")
        yield hosts


def _ip(*words: str) -> None:
    assert _IP is not None
    done = subprocess.run([_IP, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(words)}: {done.stderr.strip()}")


@pytest.fixture
def hosts() -> Iterator[list[Host]]:
    """A load balancer's host, and two for ollamad."""
    with ExitStack() as stack:
        try:
            made = stack.enter_context(network(["192.0.2.1", "192.0.2.11", "192.0.2.12"]))
        except RuntimeError as why:
            pytest.skip(str(why))
        yield made
