"""One loaded model: its slots with what they have cached, and tokens at the speed of its GPU."""

from __future__ import annotations

import asyncio
import subprocess
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

from ollamad.sim.clock import Clock, Timer
from ollamad.sim.faults import Faults
from ollamad.sim.model import Model
from ollamad.sim.policy import Load, choose_slot
from ollamad.sim.recital import Piece
from ollamad.sim.timing import Timing

HUNG_LOOK_S: Final = 0.05
"""How often a hung stream looks whether its runner was killed, or is well again."""


class RunnerDied(Exception):
    """The runner's process is gone."""


class Runner:
    """A model in VRAM. Its scheduler alone writes `refs`, `keep_alive_ns`, `expires_s` and `timer`."""

    def __init__(  # noqa: PLR0913 - it is what a load results in
        self,
        model: Model,
        load: Load,
        *,
        parallel: int,
        size_bytes: int,
        vram_bytes: int,
        keep_alive_ns: int,
        timing: Timing,
        clock: Clock,
        faults: Faults,
        process: subprocess.Popen[bytes] | None,
    ) -> None:
        self.model = model
        self.load = load
        self.size_bytes = size_bytes
        self.vram_bytes = vram_bytes
        self.keep_alive_ns = keep_alive_ns
        self.refs = 0
        self.expires_s: float | None = None
        """When it goes, by the clock; None while it works."""
        self.timer: Timer | None = None
        self.hung = False
        self.parallel = parallel
        self.streams = 0
        """Slots that work on an answer."""
        self._timing, self._clock, self._faults = timing, clock, faults
        self._process = process
        self._free = deque(range(parallel))
        self._cached: list[Sequence[int]] = [()] * parallel
        self._slot = asyncio.Semaphore(parallel)
        self._prefill = asyncio.Lock()

    @property
    def key(self) -> str:
        """What tells it from others: the file of its weights."""
        return str(self.model.blob)

    @property
    def busy(self) -> bool:
        """Whether a request holds it."""
        return self.refs > 0

    @property
    def pid(self) -> int | None:
        """Of its process, if it has one."""
        return None if self._process is None else self._process.pid

    @property
    def alive(self) -> bool:
        """Whether its process, if it has one, still runs."""
        return self._process is None or self._process.poll() is None

    def kill(self) -> None:
        """End its process."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()
            self._process.wait()

    @asynccontextmanager
    async def prefilled(self, prompt: Sequence[int]) -> AsyncIterator[None]:
        """A slot that has this prompt in its cache, once there is one and it has; other prompts wait their turn."""
        async with self._slot:
            slot, held = choose_slot(tuple(self._free), self._cached, prompt)
            self._free.remove(slot)
            self.streams += 1
            try:
                async with self._prefill:
                    await self._well()
                    await self._pass(self._timing.prefill_s(len(prompt) - held))
                self._cached[slot] = prompt
                yield
            finally:
                self.streams -= 1
                self._free.append(slot)

    async def recite(self, pieces: Iterable[Piece]) -> AsyncGenerator[Piece, None]:
        """The pieces, one a step; a step takes longer the more streams share it. Raises RunnerDied."""
        due_s = self._clock.now_s()
        for piece in pieces:
            await self._well()
            step_s = self._timing.step_s(self.streams, self.model.weights_bytes)
            due_s = max(due_s + step_s * self._faults.slowness, self._clock.now_s())
            await self._clock.sleep(due_s - self._clock.now_s())
            yield piece

    async def embed(self, tokens: int) -> None:
        """Take the time of an embedding. Raises RunnerDied."""
        async with self._slot, self._prefill:
            await self._well()
            await self._pass(self._timing.prefill_s(tokens))

    async def _well(self) -> None:
        while self.hung and self.alive:
            await self._clock.sleep(HUNG_LOOK_S)
        if not self.alive:
            raise RunnerDied

    async def _pass(self, length_s: float) -> None:
        if length_s:
            await self._clock.sleep(length_s * self._faults.slowness)
