"""What can be broken in the demo by hand, and mended again: each act is done to the processes or the GPUs themselves.

Nothing here tells the daemon. A killed child is a process that got SIGKILL, a frozen one has got SIGSTOP, a lost GPU is
one of which the driver says so: what comes of it is found out, and dealt with, as it would be on a real machine.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Final

import aiohttp
import structlog

from ollamad.config.load import did_you_mean
from ollamad.demo.driver import DriverFolder, Report
from ollamad.demo.provider import VRAM_BYTES, SimulatedGpus
from ollamad.demo.traffic import Traffic, parse_rate
from ollamad.errors import ClientError, OperationFailed
from ollamad.gpu.model import Gpu
from ollamad.ollama.client import UNTIMED

log = structlog.get_logger()

SLOW_TIMES: Final = 8.0
SLOW_MAX_TIMES: Final = 1000.0
ANSWER_S: Final = 2.0
"""How long a simulated server may take to be told; it is on this machine, and idle."""
_UNITS: Final = {"": 1024**3, "b": 1, "kib": 1024, "mib": 1024**2, "gib": 1024**3, "gb": 10**9, "mb": 10**6}
_SIZE: Final = re.compile(r"(\d{1,6}(?:\.\d{1,6})?)\s*([a-z]*)")

Act = Callable[[str | None, str | None], Awaitable[str]]
"""Is given a target and a value, as they were typed; gives what was done, for people."""


class Faults:
    """The switches. For one event loop."""

    def __init__(self, folder: DriverFolder, gpus: SimulatedGpus, traffic: Traffic) -> None:
        self._folder = folder
        self._gpus = gpus
        self._traffic = traffic
        self._usual_rate_per_s = traffic.rate_per_s
        self._in_force: dict[tuple[str, str], str] = {}
        """By act and name, what is broken until it is healed, for people."""
        self._acts: Mapping[str, Act] = {
            "kill": self._kill,
            "crash": self._crash,
            "freeze": self._freeze,
            "hang": self._hang,
            "slow": self._slow,
            "lose": self._lose,
            "stall": self._stall,
            "fill": self._fill,
            "traffic": self._set_traffic,
            "heal": self._heal,
        }

    def state(self) -> dict[str, Any]:
        """What is in force."""
        ended = tuple(self._traffic.ended)
        return {
            "gpus": [f"gpu{gpu.index}" for gpu in self._gpus.gpus],
            "faults": [{"act": act, "target": target, "text": text} for (act, target), text in self._in_force.items()],
            "requests_per_s": self._traffic.rate_per_s,
            "last_requests": {outcome: ended.count(outcome) for outcome in sorted(set(ended))},
        }

    async def do(self, act: str, target: str | None, value: str | None) -> str:
        """Break or mend something; gives what was done, for people. Raises ClientError, OperationFailed."""
        found = self._acts.get(act)
        if found is None:
            raise ClientError(400, f'there is no act "{act}"{did_you_mean(act, self._acts) or _listed(self._acts)}')
        said = await found(target, value)
        log.warning("demo", act=act, target=target, value=value)
        return said

    # Children

    async def _kill(self, target: str | None, _value: str | None) -> str:
        server = self._server(target)
        _signal(server.pid, signal.SIGKILL)
        return f"the server of {server.child} (pid {server.pid}) got SIGKILL; its runners outlive it for a moment"

    async def _crash(self, target: str | None, _value: str | None) -> str:
        gpu = self._gpu(target)
        name = f"gpu{gpu.index}"
        self._folder.tell_crash(name, crash=True)
        self._note("crash", name, "every server of it exits at its start")
        for server in self._folder.servers():
            if server.child == name:
                _signal(server.pid, signal.SIGKILL)
        return f"{name} was killed, and will exit whenever it is started, until it is healed"

    async def _freeze(self, target: str | None, _value: str | None) -> str:
        server = self._server(target)
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGSTOP)
        return f"{server.child} and its runners got SIGSTOP: they live, and answer nothing"

    async def _hang(self, target: str | None, _value: str | None) -> str:
        server = self._server(target)
        await self._order(server, {"fault": "hang"})
        return f"what {server.child} has loaded gives no more tokens; its /api/version answers as ever"

    async def _slow(self, target: str | None, value: str | None) -> str:
        server = self._server(target)
        times = _times(value)
        await self._order(server, {"fault": "slow", "value": times})
        self._note("slow", server.child, f"{times:g} times as slow")
        return f"{server.child} takes {times:g} times as long for everything"

    # GPUs

    async def _lose(self, target: str | None, _value: str | None) -> str:
        gpu = self._gpu(target)
        self._gpus.lose(gpu.uuid)
        self._note("lose", f"gpu{gpu.index}", "off the bus (Xid 79)")
        return f"GPU {gpu.index} has fallen off the bus: the driver reports Xid 79, and says that it is lost"

    async def _stall(self, target: str | None, _value: str | None) -> str:
        gpu = self._gpu(target)
        self._gpus.stall(gpu.uuid)
        self._note("stall", f"gpu{gpu.index}", "the driver hangs in calls about it")
        return f"the driver hangs in calls about GPU {gpu.index}, and so gives no news of the others either"

    async def _fill(self, target: str | None, value: str | None) -> str:
        gpu = self._gpu(target)
        size_bytes = _size(value)
        self._gpus.fill(gpu.uuid, size_bytes)
        shown = f"{size_bytes / 1024**3:.1f} GiB"
        self._note("fill", f"gpu{gpu.index}", f"{shown} are another program's" if size_bytes else None)
        return f"another program has {shown} of GPU {gpu.index}"

    # All

    async def _set_traffic(self, target: str | None, value: str | None) -> str:
        try:
            self._traffic.set_rate(parse_rate(target or value or ""))
        except ValueError as error:
            raise ClientError(400, str(error)) from error
        return f"{self._traffic.rate_per_s:g} requests a second from now on"

    async def _heal(self, target: str | None, _value: str | None) -> str:
        gpus = self._gpus.gpus if target is None else (self._gpu(target),)
        for gpu in gpus:
            self._gpus.lose(gpu.uuid, lost=False)
            self._gpus.stall(gpu.uuid, stalled=False)
            self._gpus.fill(gpu.uuid, 0)
            self._folder.tell_crash(f"gpu{gpu.index}", crash=False)
        names = {f"gpu{gpu.index}" for gpu in gpus}
        for server in self._folder.servers():
            if server.child in names:
                with suppress(ProcessLookupError):
                    os.killpg(server.pid, signal.SIGCONT)
                with suppress(OperationFailed):  # it is on its way out: its successor is well
                    await self._order(server, {})
        self._in_force = {key: text for key, text in self._in_force.items() if key[1] not in names}
        if target is None:
            self._traffic.set_rate(self._usual_rate_per_s)
        return f"nothing is broken any more on {', '.join(sorted(names))}; who is quarantined comes back by itself"

    def _note(self, act: str, name: str, text: str | None) -> None:
        if text is None:
            self._in_force.pop((act, name), None)
        else:
            self._in_force[act, name] = text

    def _gpu(self, target: str | None) -> Gpu:
        """A GPU by `2` or `gpu2`. Raises ClientError."""
        known = {f"gpu{gpu.index}": gpu for gpu in self._gpus.gpus}
        asked = (target or "").lower().removeprefix("gpu")
        found = known.get(f"gpu{asked}")
        if found is None:
            raise ClientError(404, f'there is no GPU "{target or ""}" in this demo; there are {", ".join(known)}')
        return found

    def _server(self, target: str | None) -> Report:
        """The living server of a child. Raises ClientError, OperationFailed."""
        name = f"gpu{self._gpu(target).index}"
        for server in self._folder.servers():
            if server.child == name:
                return server
        raise OperationFailed(f"{name} has no server now; see: ollamactl status")

    async def _order(self, server: Report, body: Mapping[str, Any]) -> None:
        url = f"http://127.0.0.1:{server.port}/sim/fault"
        try:
            async with (
                asyncio.timeout(ANSWER_S),
                aiohttp.ClientSession(timeout=UNTIMED) as session,
                session.post(url, json=body) as answer,
            ):
                answer.raise_for_status()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise OperationFailed(f"{server.child} can't be told: {str(error) or 'it does not answer'}") from error


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _times(value: str | None) -> float:
    try:
        times = float(value) if value else SLOW_TIMES
    except ValueError:
        times = 0.0
    if not 1 <= times <= SLOW_MAX_TIMES:
        raise ClientError(400, f"a number from 1 to {SLOW_MAX_TIMES:g} is expected: how many times as slow")
    return times


def _size(value: str | None) -> int:
    """`20GiB`, `512MiB`, `20` (GiB). Raises ClientError."""
    matched = _SIZE.fullmatch((value or "").strip().lower())
    unit = _UNITS.get(matched[2]) if matched else None
    size_bytes = round(float(matched[1]) * unit) if matched and unit is not None else -1
    if not 0 <= size_bytes <= VRAM_BYTES:
        raise ClientError(400, "a size from 0 to 24GiB is expected, such as 20GiB or 512MiB")
    return size_bytes


def _listed(names: Mapping[str, object]) -> str:
    return f"; there are {', '.join(names)}"
