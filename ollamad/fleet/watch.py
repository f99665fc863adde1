"""Asks one process of a child how it is: whether it is ready, whether it lives, what it has loaded, whether it gets on.

Nothing that is asked loads a model or disturbs one. What is found goes to `Known`, and as events to the phase machine.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from ollamad.config.schema import Config
from ollamad.errors import NoAnswer
from ollamad.fleet.bell import Bell
from ollamad.fleet.known import Known
from ollamad.fleet.limits import patience
from ollamad.ollama.client import ChildClient
from ollamad.ollama.process import ServeProcess
from ollamad.ollama.runners import cpu_s
from ollamad.routing.snapshot import StreamView
from ollamad.supervision.pinning import Pinning
from ollamad.supervision.progress import Loading, Pulse, Stream, hang
from ollamad.supervision.state import Answered, Event, Missed, Stuck, Unfit

log = structlog.get_logger()

STIR_S: Final = 10.0
"""How long after a change a child is still asked as often as a busy one."""
EXPIRY_SLACK_S: Final = 0.25
"""How long after a keep-alive ends the model should be gone from `/api/ps`."""
WORK_SHARE: Final = 0.02
"""A child's processes have worked when they had this share of one core since we last looked."""


class Surroundings(Protocol):
    """What a watch must know that its child's process does not tell."""

    def streams(self) -> tuple[StreamView, ...]:
        """The requests that the child has now."""

    def loading(self) -> Loading | None:
        """The load that ollamad itself has told it to make."""

    def usual_gaps_s(self) -> Mapping[str, float]:
        """The longest usual pause of a stream, by model."""

    def gpu_busy(self) -> bool | None:
        """Whether its GPUs have worked lately; None where nothing fresh tells, or it has none."""

    def pinning(self, members: frozenset[int]) -> Pinning:
        """Whether its processes are where they were pinned."""


@dataclass(frozen=True, slots=True)
class Watched:
    """One process under watch."""

    life: int
    process: ServeProcess
    client: ChildClient
    port: int


class Watch:
    """Runs for one life."""

    def __init__(
        self,
        watched: Watched,
        known: Known,
        surroundings: Surroundings,
        settings: Callable[[], Config],
        report: Callable[[Event], None],
    ) -> None:
        self._watched = watched
        self._known = known
        self._around = surroundings
        self._settings = settings
        self._report = report
        self._look = Bell()
        self._rests = False
        """Whether it is not asked again for longer than a busy one."""
        self._wakes = False
        """Whether it was given something to do while it rested."""
        self._cpu: tuple[float, float] | None = None
        """When the processes' CPU time was last read, and what it was."""

    def look(self) -> None:
        """Ask again now."""
        self._look.ring()

    def given(self) -> None:
        """It has something to do: whether it lives is asked as soon as of a busy child, if it hangs somebody waits."""
        if self._rests:
            self._rests, self._wakes = False, True
            self._look.ring()

    async def run(self) -> None:
        """Ask until cancelled."""
        try:
            await self._ask()
        finally:
            self._known.looked_s = None

    async def _ask(self) -> None:
        life = self._watched.life
        await self._until_ready()
        self._known.trust(trusted=True)
        self._report(Answered(life))
        while True:
            lives = await self._answers()
            self._known.trust(trusted=lives)
            self._report(Answered(life) if lives else Missed(life))
            if lives:
                await self._ask_residents()
                self._judge()
            if self._known.trusted or not lives:  # else a connection failed while we asked: look again at once
                await self._rest()

    async def _until_ready(self) -> None:
        watched = self._watched
        while not (await self._answers() and watched.process.listens_on(watched.port)):  # noqa: ASYNC110 - no bell rings
            await asyncio.sleep(self._settings().supervision.probe_interval_s)

    async def _answers(self) -> bool:
        self._known.looked_s = time.monotonic()
        try:
            self._known.version = await self._watched.client.version()
        except NoAnswer:
            return False
        return True

    async def _ask_residents(self) -> None:
        try:
            self._known.see(await self._watched.client.residents())
        except NoAnswer as error:
            self._known.ps_silent_since_s = self._known.ps_silent_since_s or time.monotonic()
            log.debug("loaded models unknown", error=str(error))

    async def _rest(self) -> None:
        """Wait until it is to be asked again; of one that is given something to do meanwhile that is sooner."""
        pause_s, busy_s = self._pause_s(), self._settings().supervision.resident_interval_s
        self._rests, self._wakes = pause_s > busy_s, False
        await self._look.heard(pause_s)
        self._rests = False
        if self._wakes and self._known.looked_s is not None:
            left_s = self._known.looked_s + busy_s - time.monotonic()
            if left_s > 0:
                await self._look.heard(left_s)

    def _pause_s(self) -> float:
        """Short while it works or has just changed; else until its next model is due to go, or the idle interval."""
        supervision = self._settings().supervision
        now_s = time.monotonic()
        stirred = now_s - self._known.stirred_s < STIR_S or self._known.ps_silent_since_s is not None
        if stirred or self._around.streams():
            return supervision.resident_interval_s
        due = [one.expires_s - now_s + EXPIRY_SLACK_S for one in self._known.residents if one.expires_s is not None]
        soonest = min((left_s for left_s in due if left_s > 0), default=supervision.idle_interval_s)
        return min(max(soonest, supervision.resident_interval_s), supervision.idle_interval_s)

    def _judge(self) -> None:
        life = self._watched.life
        members = frozenset(self._watched.process.members()) if self._known.residents else frozenset()
        fault = self._known.place(members, self._around.pinning(members))
        if fault is not None and self._settings().gpus.require_gpu:
            self._report(Unfit(life, f"gpus.require_gpu = true, but {fault}"))
        now_s = time.monotonic()
        found = hang(self._pulse(now_s), patience(self._settings()), now_s)
        if found is not None:
            self._report(Stuck(life, found.model, found.reason))

    def _pulse(self, now_s: float) -> Pulse:
        views = self._around.streams()
        known = self._known
        waits = any(view.heard_s is None for view in views)
        return Pulse(
            streams=tuple(
                Stream(view.model, view.since_s, view.heard_s, view.held) for view in views if view.model is not None
            ),
            loading=self._around.loading(),
            expiries_s=None
            if known.residents_at_s is None
            else {resident.model: resident.expires_s for resident in known.residents},
            ps_silent_since_s=known.ps_silent_since_s,
            busy=self._busy(now_s) if waits else None,
            usual_gaps_s=self._around.usual_gaps_s(),
        )

    def _busy(self, now_s: float) -> bool | None:
        """By its GPUs where it has some; else by the time that its processes have had on a CPU."""
        on_gpu = self._around.gpu_busy()
        before, spent_s = self._cpu, cpu_s(self._watched.process.members())
        self._cpu = (now_s, spent_s)
        if on_gpu is not None:
            return on_gpu
        return None if before is None else spent_s - before[1] >= WORK_SHARE * (now_s - before[0])
