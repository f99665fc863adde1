"""One process of a child, from its start until nothing is left of it: not its group, and not what it had in VRAM."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol

import structlog

from ollamad.errors import NoAnswer
from ollamad.fleet.known import Known
from ollamad.fleet.watch import Watch
from ollamad.ollama.client import ChildClient
from ollamad.ollama.output import LastWords, is_of_a_probe, parse_line
from ollamad.ollama.process import ServeProcess
from ollamad.ollama.runners import kill_runners
from ollamad.supervision.freeing import Holding

log = structlog.get_logger()

SWEEP_PATIENCE_S: Final = 10.0
"""How long until it is told that a killed group is still there; only a process stuck in a driver takes longer."""

_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class Vram(Protocol):
    """What a child has on its GPUs."""

    def hold(self, pids: frozenset[int]) -> Holding | None:
        """What these processes, dying or just dead, have there; None on the CPU. A later sample may show less."""

    async def freed(self, held: Holding | None) -> None:
        """Return when that is free, when it takes too long, or when nothing will tell."""


class Life:
    """Owns a process and its output, and ends what is left of both."""

    def __init__(
        self,
        child: str,
        process: ServeProcess,
        client: ChildClient,
        watch: Watch,
        known: Known,
        keep: Callable[[str], None],
    ) -> None:
        self._process = process
        self._client = client
        self._watch = watch
        self._known = known
        self._keep = keep
        self.last_words = LastWords()
        """Told with its death."""
        self._vram: Vram | None = None
        self._held: Holding | None = None
        """What it had when its end was decided."""
        self._log = log.bind(child=child)

    async def run(self, vram: Vram) -> str:
        """Watch it until it is gone, and wait until its VRAM is free; gives how it ended.

        Whatever cuts this short, nothing of the process is left behind.
        """
        self._vram = vram
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._process.drain(self._said))
                watch = tasks.create_task(self._watch.run())
                await self._process.exited()
                ended_s = time.monotonic()
                self._known.trust(trusted=False)
                watch.cancel()
                self._hold()
                await self._process.sweep(SWEEP_PATIENCE_S, self._late)
        finally:
            self._process.abandon()
        await vram.freed(self._held)
        why = self.last_words.explain(ended_s, failed=self._process.failed())
        return f"{self._process.reason()}: {why}" if why else self._process.reason()

    def terminate(self) -> None:
        """Ask it to stop."""
        self._hold()
        self._process.terminate()

    def kill(self) -> None:
        """End it and its group now."""
        self._hold()
        self._process.kill()

    def _hold(self) -> None:
        """Remember what it has in VRAM, once: at its end runners may be gone already, and a sample may show it."""
        if self._held is None and self._vram is not None:
            self._held = self._vram.hold(frozenset({self._process.pid, *self._process.members()}))

    def look(self) -> None:
        """Ask it how it is, now."""
        self._watch.look()

    def given(self) -> None:
        """It has something to do."""
        self._watch.given()

    async def kill_runner(self, model: str | None) -> None:
        """End the runner of this model, or all where it can't be told apart."""
        weights = None
        if model is not None:
            with suppress(NoAnswer):
                weights = await self._client.weights_of(model)
        killed = kill_runners(self._process.members(), self._process.pid, weights)
        self._log.warning("runner killed", model=model, pids=killed)

    def _late(self, pids: tuple[int, ...]) -> None:
        self._log.error("processes outlive kill", pids=pids, after_s=SWEEP_PATIENCE_S)

    def _said(self, text: str) -> None:
        line = parse_line(text)
        if line.text and not is_of_a_probe(line.text):
            self._keep(line.text)
            self.last_words.add(line, time.monotonic())
            self._log.log(_LEVELS[line.level], "child output", line=line.text)
