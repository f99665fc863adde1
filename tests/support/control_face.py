"""The real control face on a real socket, with children that exist in memory only: what a test looks at and steers."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from ollamad.access.keyring import Keyring
from ollamad.config.load import did_you_mean
from ollamad.config.schema import Control
from ollamad.control.access import access_of, ownership_of
from ollamad.control.app import ControlSite, control_runner
from ollamad.control.claim import claimed
from ollamad.control.handlers import Handlers
from ollamad.control.operations import Services, Tell
from ollamad.control.running import Running
from ollamad.errors import UnknownChild
from ollamad.fleet.tape import Missed, Tape
from ollamad.routing.snapshot import ChildView, GpuView, Resident, Snapshot, StreamView
from ollamad.status.view import status
from ollamad.supervision.state import Phase, Want

GIB = 1024**3


def gpu(index: int, used_gib: float = 6.0) -> GpuView:
    return GpuView(
        index=index,
        uuid=f"GPU-{index}",
        name="NVIDIA A100",
        memory_total_bytes=24 * GIB,
        memory_used_bytes=int(used_gib * GIB),
        memory_free_bytes=int((24 - used_gib) * GIB),
        utilization_percent=61,
        temperature_c=55,
        sampled_at_s=99.5,
        error=None,
    )


def child(name: str, **differing: Any) -> ChildView:
    base = ChildView(
        id=name,
        want=Want.UP,
        phase=Phase.READY,
        trusted=True,
        in_flight=0,
        life=1,
        ready_since_s=40.0,
        pid=4242,
        port=11_500,
    )
    return msgspec.structs.replace(base, **differing)


def two_children() -> tuple[ChildView, ...]:
    return (
        child(
            "gpu0",
            gpus=(gpu(0),),
            residents=(Resident("llama3.2:3b", 3 * GIB, 3 * GIB, None),),
            in_flight=2,
            slots=4,
            streams=(StreamView("llama3.2:3b", 90.0, 99.75), StreamView(None, 98.0, None)),
        ),
        child(
            "gpu1",
            gpus=(gpu(1, 0.0),),
            phase=Phase.BACKOFF,
            ready_since_s=None,
            deaths=3,
            reason="exit status 1: CUDA error: out of memory",
        ),
    )


@dataclass
class Puppets:
    """Children that do at once what they are told, and operations that go on when the test lets them."""

    children: dict[str, ChildView] = field(default_factory=lambda: {one.id: one for one in two_children()})
    printed: dict[str, Tape[str]] = field(default_factory=lambda: {name: Tape(3) for name in ("gpu0", "gpu1")})
    asked: list[tuple[str, str]] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    loads: list[tuple[str, tuple[str, ...], int | str | None]] = field(default_factory=list)
    fault: Exception | None = None
    """What the next change or operation raises."""

    def snapshot(self) -> Snapshot:
        return Snapshot(taken_at_s=100.0, children=tuple(self.children.values()), waiting=1)

    def drain(self, child: str) -> None:
        self._change("drain", child, phase=Phase.STOPPED, want=Want.DOWN, in_flight=0, ready_since_s=None)

    def undrain(self, child: str) -> None:
        self._change("undrain", child, phase=Phase.READY, want=Want.UP)

    def restart(self, child: str) -> None:
        self._change("restart", child, life=self._known(child).life + 1, phase=Phase.READY)

    def reset(self, child: str) -> None:
        self._change("reset", child, phase=Phase.READY, deaths=0, reason=None)

    async def rolling_restart(self, tell: Tell) -> None:
        self._raise()
        tell({"step": "drains", "child": "gpu0"})
        await self.gate.wait()
        tell({"step": "ready", "child": "gpu0", "pid": 4243})

    def explain(self, model: str) -> Mapping[str, Any]:
        return {
            "verdict": "send",
            "child": "gpu0",
            "reason": "has it",
            "expected_s": 0.4,
            "children": {"gpu0": f"ready for {model}", "gpu1": "exit status 1"},
        }

    async def pull(self, model: str, tell: Tell, *, insecure: bool) -> None:
        self._raise()
        tell({"step": f"pulling {model}{' insecurely' * insecure}", "completed_bytes": 2, "total_bytes": 4})
        await self.gate.wait()
        tell({"step": "success"})

    async def load(self, model: str, children: Sequence[str], keep_alive: int | str | None, tell: Tell) -> None:
        self._raise()
        self.loads.append((model, tuple(children), keep_alive))
        for child in children or ["gpu0"]:
            tell({"child": child, "step": "loaded", "model": model})

    async def sync(self, tell: Tell) -> None:
        self._raise()
        tell({"step": "synchronized", "models": 3})

    async def prune(self, tell: Tell, *, dry_run: bool, now: bool) -> None:
        tell({"step": "would delete" if dry_run else "deleted", "files": 3 if now else 2})

    async def reload(self, tell: Tell) -> None:
        self._raise()
        tell({"step": "nothing differs"})

    def lines(self, child: str) -> Sequence[str]:
        return self.printed[self._known(child).id].kept

    def follow(self, child: str) -> AsyncIterator[str | Missed]:
        return self.printed[self._known(child).id].read()

    def prints(self, child: str, *lines: str) -> None:
        for line in lines:
            self.printed[child].append(line)

    def _change(self, what: str, name: str, **differing: Any) -> None:
        self._known(name)
        self._raise()
        self.asked.append((what, name))
        self.children[name] = msgspec.structs.replace(self.children[name], **differing)

    def _known(self, name: str) -> ChildView:
        if name not in self.children:
            raise UnknownChild(f'there is no child "{name}"{did_you_mean(name, self.children)}')
        return self.children[name]

    def _raise(self) -> None:
        if self.fault is not None:
            raise self.fault


@dataclass
class Face:
    """One running control face."""

    path: Path
    puppets: Puppets
    running: Running
    keyring: Keyring
    session: aiohttp.ClientSession

    async def ask(self, method: str, path: str) -> tuple[int, dict[str, Any]]:
        async with self.session.request(method, f"http://ollamad{path}") as answer:
            return answer.status, await answer.json()

    async def ctl(self, *arguments: str, env: Mapping[str, str] | None = None) -> tuple[int, str, str]:
        """`ollamactl` as a process of its own."""
        return await ollamactl("--socket", str(self.path), *arguments, env=env)


async def ollamactl(*arguments: str, env: Mapping[str, str] | None = None) -> tuple[int, str, str]:
    """Run one command to its end; gives exit status, stdout, stderr."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ollamad.cli.ctl.main", *arguments),
        env={"PYTHONPATH": ":".join(sys.path), **(env or {})},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(30):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


@asynccontextmanager
async def face(
    path: Path,
    settings: Control | None = None,
    puppets: Puppets | None = None,
    proxy: str = "127.0.0.1:1",
    keys_file: Path | None = None,
) -> AsyncIterator[Face]:
    """A control face for as long as the block lasts."""
    settings, puppets = settings or Control(), puppets or Puppets()
    keyring = Keyring(keys_file, keys_max=3)
    running = Running(operations_kept=settings.operations_kept, progress_kept=settings.progress_kept)
    services = Services(
        puppets,
        lambda: status(puppets.snapshot()),
        lambda: {"pid": 1, "uptime_s": 75.0, "proxy": proxy, "status": "127.0.0.1:2", "socket": str(path)},
        keyring,
    )
    runner = control_runner(Handlers(services, running), access_of(settings))
    await runner.setup()
    with claimed(path, ownership_of(settings)) as listener:
        async with asyncio.TaskGroup() as tasks:
            owner = tasks.create_task(running.run())
            await ControlSite(runner, listener).start()
            try:
                async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session:
                    yield Face(path, puppets, running, keyring, session)
            finally:
                await runner.cleanup()
                owner.cancel()
                with suppress(asyncio.CancelledError):
                    await owner
