"""What is done to a fleet while it serves: each fault is made, mended by ollamad or taken back, and counted."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

import psutil

from bench.soak.clients import Clients
from bench.soak.fleets import GIB, Fleet
from tests.support.daemon import runners_of
from tests.support.fake_nvml import Call

Fault = Callable[[Fleet, Clients, random.Random], Awaitable[None]]
MENDED_WITHIN_S: Final = 60.0
"""Until every child is ready again. A hang is only believed after some seconds, and a restart drains first."""
ENDS_WITHIN_S: Final = 120.0
"""What an operator asked for. A rolling restart drains each child, and each may have to be found hung first."""


class NotMended(Exception):
    """A fleet that is not whole again in time; its text says of what."""


async def make(fault: Fault, fleet: Fleet, clients: Clients, luck: random.Random) -> None:
    """Make one, and wait until every child is ready again. Raises NotMended."""
    step = "did not end"
    try:
        async with asyncio.timeout(ENDS_WITHIN_S):
            await fault(fleet, clients, luck)
        step = "was not mended"
        async with asyncio.timeout(MENDED_WITHIN_S):
            while not await _whole(fleet):
                await asyncio.sleep(0.1)
    except TimeoutError as error:
        children = [(one["id"], one["phase"], one["reason"]) for one in (await fleet.daemon.status())["children"]]
        raise NotMended(f"{fleet.name}: {fault.__name__} {step}: {children}") from error


async def _whole(fleet: Fleet) -> bool:
    return [one["routable"] for one in (await fleet.daemon.status())["children"]] == [True] * fleet.children


def _signal(pid: int | None, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        if pid is not None:
            os.kill(pid, number)


async def kill_child(fleet: Fleet, _clients: Clients, luck: random.Random) -> None:
    """SIGKILL to a server."""
    _signal((await fleet.some_child(luck))["pid"], signal.SIGKILL)


async def freeze_child(fleet: Fleet, _clients: Clients, luck: random.Random) -> None:
    """SIGSTOP to a server: it holds its connections, and answers nothing."""
    _signal((await fleet.some_child(luck))["pid"], signal.SIGSTOP)


async def kill_runner(fleet: Fleet, _clients: Clients, luck: random.Random) -> None:
    """SIGKILL to a runner, behind its server's back."""
    with suppress(psutil.Error):
        for runner in runners_of((await fleet.some_child(luck))["pid"])[:1]:
            _signal(runner.pid, signal.SIGKILL)


async def kill_all(fleet: Fleet, _clients: Clients, _luck: random.Random) -> None:
    """SIGKILL to every server at once: requests must wait for the next."""
    for child in (await fleet.daemon.status())["children"]:
        _signal(child["pid"], signal.SIGKILL)


async def drain(fleet: Fleet, _clients: Clients, luck: random.Random) -> None:
    """A child is taken out, and back after a second."""
    child = (await fleet.some_child(luck))["id"]
    await fleet.control("POST", f"/v1/children/{child}/drain")
    await asyncio.sleep(1.0)
    await fleet.control("POST", f"/v1/children/{child}/undrain")


async def restart(fleet: Fleet, _clients: Clients, luck: random.Random) -> None:
    """A child drains, and gets a new process."""
    await fleet.control("POST", f"/v1/children/{(await fleet.some_child(luck))['id']}/restart")


async def rolling_restart(fleet: Fleet, _clients: Clients, _luck: random.Random) -> None:
    """All children, one after the other."""
    await fleet.control("POST", "/v1/restart")


async def reload_good(fleet: Fleet, _clients: Clients, luck: random.Random) -> None:
    """The configuration is read again, with one value changed."""
    fleet.daemon.configure("proxy", linger_s=luck.randint(1, 9))
    await fleet.control("POST", "/v1/reload")


async def reload_bad(fleet: Fleet, clients: Clients, _luck: random.Random) -> None:
    """A configuration that can't be used must be refused, and change nothing."""
    file = fleet.daemon.folder / "config.toml"
    text = await asyncio.to_thread(file.read_text)
    await asyncio.to_thread(file.write_text, text + "\n[nonsense]\nkey = 1\n")
    status, said = await fleet.control("POST", "/v1/reload")
    await asyncio.to_thread(file.write_text, text)
    if status == 200 and "nonsense" not in said:
        clients.seen.violated(f"a bad configuration was taken: {said[:200]}")


async def burst(_fleet: Fleet, clients: Clients, _luck: random.Random) -> None:
    """A hundred requests at once."""
    await clients.burst(100)


async def garbage(fleet: Fleet, _clients: Clients, luck: random.Random) -> None:
    """Bytes that are no HTTP, and connections that say nothing, left open."""
    host, port = fleet.daemon.base_url.removeprefix("http://").split(":")
    for _ in range(20):
        _reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(luck.randbytes(luck.randint(0, 4096)))
        if luck.random() < 0.5:
            writer.transport.abort()
        writer.close()


async def lose_gpu(fleet: Fleet, _clients: Clients, luck: random.Random) -> None:
    """A GPU falls off the bus, and comes back."""
    gpu = _gpu(fleet, luck)
    _driver(fleet).set_lost(gpu)
    await asyncio.sleep(luck.uniform(0.5, 3.0))
    _driver(fleet).set_lost(gpu, lost=False)


async def hang_driver(fleet: Fleet, _clients: Clients, luck: random.Random) -> None:
    """A call of the driver does not return for a while."""
    _driver(fleet).hang(_gpu(fleet, luck), luck.choice((Call.MEMORY, Call.UTILIZATION, Call.PROCESSES)))
    await asyncio.sleep(luck.uniform(0.5, 3.0))
    _driver(fleet).clear()


async def memory_error(fleet: Fleet, _clients: Clients, luck: random.Random) -> None:
    """Xid 48, an uncorrectable memory error: the GPU's child is drained."""
    _driver(fleet).xid(_gpu(fleet, luck), 48)


async def foreign_memory(fleet: Fleet, _clients: Clients, luck: random.Random) -> None:
    """Somebody else's process takes most of a GPU for a while."""
    fleet.foreign[_gpu(fleet, luck)] = 20 * GIB
    await asyncio.sleep(luck.uniform(1.0, 4.0))
    fleet.foreign.clear()


def _driver(fleet: Fleet) -> Any:
    assert fleet.driver is not None
    return fleet.driver


def _gpu(fleet: Fleet, luck: random.Random) -> int:
    return luck.randrange(fleet.children)


ANYWHERE: Final[tuple[Fault, ...]] = (
    *(kill_child, freeze_child, kill_runner, kill_all, drain, restart, rolling_restart),
    *(reload_good, reload_bad, burst, garbage),
)
OF_GPUS: Final[tuple[Fault, ...]] = (lose_gpu, hang_driver, memory_error, foreign_memory)


def faults_of(fleet: Fleet) -> tuple[Fault, ...]:
    """What can be done to this fleet."""
    return ANYWHERE if fleet.driver is None else ANYWHERE + OF_GPUS
