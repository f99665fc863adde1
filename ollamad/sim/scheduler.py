"""Which models are loaded, by Ollama's rules: one load at a time, whoever else must load waits behind it."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from ollamad.sim.clock import Clock
from ollamad.sim.faults import Fault, Faults
from ollamad.sim.golang import NS
from ollamad.sim.model import Model
from ollamad.sim.policy import Load, load_for, needed_bytes, victim
from ollamad.sim.runner import Runner
from ollamad.sim.settings import Settings

RUNNER_COMMAND: Final = ("sleep", "infinity")
LOOK_S: Final = 0.05
LONGEST_TIMER_S: Final = 86_400.0 * 365
"""What a timer can be set to; beyond it is forever."""


class QueueFull(Exception):
    """Too many requests wait for a model to be loaded."""


class LoadFailed(Exception):
    """The runner did not come up."""


@dataclass(frozen=True, slots=True)
class _Incoming:
    """A load that is under way."""

    runner: Runner
    since_s: float
    length_s: float

    def share(self, now_s: float) -> float:
        """How much of it is in VRAM."""
        return min(1.0, (now_s - self.since_s) / self.length_s) if self.length_s else 1.0


@dataclass(slots=True)
class Counts:
    """What has happened since the start."""

    loads: int = 0
    unloads: int = 0
    requests: int = 0


class Scheduler:
    """The one owner of loaded models. No task of its own: whoever needs a model loads it, and timers unload."""

    def __init__(
        self, settings: Settings, clock: Clock, faults: Faults, foreign_bytes: Callable[[], int] = lambda: 0
    ) -> None:
        """`foreign_bytes` is the VRAM that others have now."""
        self._settings = settings
        self._foreign_bytes = foreign_bytes
        self._clock = clock
        self._faults = faults
        self._loaded: dict[str, Runner] = {}
        self._loading = asyncio.Lock()  # hands on in order of arrival, as the real one's single loop does
        self._incoming: _Incoming | None = None
        self._waiting = 0
        self._changed = asyncio.Event()
        self.counts = Counts()

    @property
    def runners(self) -> tuple[Runner, ...]:
        """All loaded models."""
        return tuple(self._loaded.values())

    @property
    def waiting(self) -> int:
        """Requests that wait for a load, their own or another's."""
        return self._waiting

    @property
    def loading(self) -> bool:
        """Whether a load is under way."""
        return self._incoming is not None

    @property
    def working(self) -> int:
        """Streams that get on."""
        return sum(runner.streams for runner in self.runners if not runner.hung)

    def occupants(self) -> list[tuple[int, int]]:
        """Who has how much VRAM, as (pid, bytes): runners that have a process, one that is loading included."""
        coming = self._incoming
        found = [(runner.pid, runner.vram_bytes) for runner in self.runners]
        if coming is not None:
            found.append((coming.runner.pid, round(coming.share(self._clock.now_s()) * coming.runner.vram_bytes)))
        return [(pid, size) for pid, size in found if pid is not None]

    @asynccontextmanager
    async def runner(
        self, model: Model, options: Mapping[str, Any], keep_alive_ns: int | None
    ) -> AsyncIterator[Runner]:
        """The model, loaded as the options need it, and kept until the block is left.

        `keep_alive_ns` stays in force for later requests that say none. Raises QueueFull and LoadFailed; a caller that
        is cancelled while it loads takes the load with it.
        """
        load = load_for(options, self._settings.context_length, model.gguf.number("context_length", 0))
        runner = self._usable(model, load) or await self._in_turn(model, load)
        self._take(runner, keep_alive_ns)
        try:
            yield runner
        finally:
            self._give_back(runner)

    def unload(self, model: Model) -> None:
        """Let the model go as soon as it is idle."""
        runner = self._loaded.get(str(model.blob))
        if runner is not None:
            self._expire(runner)

    def end(self) -> None:
        """Unload everything, at once."""
        for runner in self.runners:
            self._remove(runner)

    def _usable(self, model: Model, load: Load) -> Runner | None:
        """The model's runner, where it can serve as it is."""
        runner = self._loaded.get(str(model.blob))
        if runner is not None and not runner.alive:
            self._remove(runner)
            return None
        stopping = self._faults.on(Fault.STUCK) and runner is not None and runner.keep_alive_ns == 0
        return None if runner is None or runner.load != load or stopping else runner

    async def _in_turn(self, model: Model, load: Load) -> Runner:
        """Wait for the turn to load, and load, unless somebody before has."""
        if self._waiting >= self._settings.max_queue:
            raise QueueFull
        self._waiting += 1
        try:
            async with self._loading:
                return self._usable(model, load) or await self._load(model, load)
        finally:
            self._waiting -= 1

    async def _load(self, model: Model, load: Load) -> Runner:
        while (old := self._loaded.get(str(model.blob))) is not None:
            await self._evict(old)
        needed = needed_bytes(
            model.weights_bytes, model.gguf.kv_bytes_per_token, load.context, self._settings.num_parallel
        )
        while not self._has_room(needed) and (loser := victim(self.runners)) is not None:
            await self._evict(loser)
        if self._faults.on(Fault.FAIL_LOAD):
            raise LoadFailed("llama runner process has terminated: exit status 2")
        process = self._spawn()
        runner = Runner(
            model,
            load,
            parallel=self._settings.num_parallel,
            size_bytes=needed,
            vram_bytes=min(needed, self._vram_bytes()),
            keep_alive_ns=self._settings.keep_alive_ns,
            timing=self._settings.timing,
            clock=self._clock,
            faults=self._faults,
            process=process,
        )
        length_s = self._settings.timing.load_s(model.weights_bytes) * self._faults.slowness
        self._incoming = _Incoming(runner, self._clock.now_s(), length_s)
        try:
            await self._clock.sleep(length_s)
            while self._faults.on(Fault.ENDLESS_LOAD):
                await self._clock.sleep(LOOK_S)
        except asyncio.CancelledError:
            runner.kill()
            raise
        finally:
            self._incoming = None
        if not runner.alive:
            runner.kill()
            raise LoadFailed("llama runner process has terminated: signal: killed")
        self._loaded[runner.key] = runner
        self.counts.loads += 1
        return runner

    def _has_room(self, needed: int) -> bool:
        if len(self._loaded) >= self._settings.max_loaded_models:
            return False
        if not self._settings.total_vram_bytes:
            return True
        return sum(runner.vram_bytes for runner in self.runners) + needed <= self._vram_bytes()

    def _vram_bytes(self) -> int:
        """What there is for models."""
        return max(0, self._settings.total_vram_bytes - self._foreign_bytes())

    def _spawn(self) -> subprocess.Popen[bytes] | None:
        """A process that stands for the runner's: in our own group, with our environment, as Ollama's are."""
        if not self._settings.runners:
            return None
        return subprocess.Popen(RUNNER_COMMAND, stdin=subprocess.DEVNULL, env=dict(os.environ))  # noqa: S603 - a constant

    async def _evict(self, runner: Runner) -> None:
        """Let one go, and wait until it has."""
        self._expire(runner)
        await self._until(lambda: self._loaded.get(runner.key) is not runner)
        await self._clock.sleep(self._settings.timing.unload_s * self._faults.slowness)

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._changed.wait()

    def _take(self, runner: Runner, keep_alive_ns: int | None) -> None:
        self.counts.requests += 1
        runner.refs += 1
        if keep_alive_ns is not None:
            runner.keep_alive_ns = keep_alive_ns
        runner.expires_s = None
        self._stop_timer(runner)

    def _give_back(self, runner: Runner) -> None:
        runner.refs -= 1
        if runner.refs == 0 and self._loaded.get(runner.key) is runner:
            self._rest(runner)

    def _rest(self, runner: Runner) -> None:
        """Start the time after which an idle model goes."""
        length_s = runner.keep_alive_ns / NS
        runner.expires_s = self._clock.now_s() + length_s
        if length_s <= 0:
            self._remove(runner, unless_stuck=True)
        elif length_s < LONGEST_TIMER_S:
            self._stop_timer(runner)
            runner.timer = self._clock.call_later(length_s, lambda: self._expire(runner))

    def _expire(self, runner: Runner) -> None:
        runner.keep_alive_ns = 0
        runner.expires_s = self._clock.now_s()
        if not runner.busy:
            self._remove(runner, unless_stuck=True)

    def _remove(self, runner: Runner, *, unless_stuck: bool = False) -> None:
        if unless_stuck and self._faults.on(Fault.STUCK):
            return
        self._stop_timer(runner)
        runner.kill()
        if self._loaded.get(runner.key) is runner:
            del self._loaded[runner.key]
            self.counts.unloads += 1
        self._ring()

    def faults_changed(self) -> None:
        """Look again at what a fault has held up; hang what is loaded if that is one of them."""
        for runner in self.runners:
            if not self._faults.on(Fault.HANG):
                runner.hung = False
            if not self._faults.on(Fault.STUCK) and runner.keep_alive_ns == 0 and not runner.busy:
                self._remove(runner)

    def hang(self) -> None:
        """Let what is loaded now give no more tokens."""
        for runner in self.runners:
            runner.hung = True

    def _stop_timer(self, runner: Runner) -> None:
        if runner.timer is not None:
            runner.timer.cancel()
            runner.timer = None

    def _ring(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
