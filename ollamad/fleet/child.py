"""One child: the driver of its phase machine, and the owner of what is known of it.

`supervision.phase.step` decides; this performs what it decided and reports what happened, through one mailbox. Each
process is a `Life` with a task of its own, which says `Gone` when nothing of it is left.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
import structlog

from ollamad.config.schema import Config
from ollamad.errors import StartError
from ollamad.fleet.bell import Bell
from ollamad.fleet.child_log import Facts, tell_step
from ollamad.fleet.devices import Devices
from ollamad.fleet.happenings import of_child
from ollamad.fleet.known import Known
from ollamad.fleet.life import Life
from ollamad.fleet.limits import restart_policy
from ollamad.fleet.outfit import Outfit
from ollamad.fleet.plan import ChildPlan
from ollamad.fleet.tallies import Tallies
from ollamad.fleet.tape import Tape
from ollamad.fleet.watch import Watch, Watched
from ollamad.ollama.client import ChildClient
from ollamad.ollama.kinship import dies_with_us
from ollamad.ollama.process import ServeProcess
from ollamad.ollama.program import Program
from ollamad.routing.snapshot import LoadView, StreamView
from ollamad.supervision.cause import Cause, cause_of
from ollamad.supervision.freeing import Holding
from ollamad.supervision.phase import step
from ollamad.supervision.pinning import Pinning
from ollamad.supervision.progress import Loading
from ollamad.supervision.state import (
    Action,
    ChildState,
    Event,
    Gone,
    Idle,
    Kill,
    KillRunner,
    MoveWaiting,
    Phase,
    Reset,
    Restart,
    Spawn,
    Terminate,
    Tick,
    WantDown,
    WantUp,
)

log = structlog.get_logger()

UNANSWERED: Final = "its child leaves probes unanswered"


@dataclass(frozen=True, slots=True)
class Tools:
    """What every child is given to work with."""

    settings: Callable[[], Config]
    """The configuration in force."""
    program: Program
    session: aiohttp.ClientSession
    outfit: Callable[[], Outfit]
    """What to start a child with, as it is in force."""
    devices: Devices
    streams: Callable[[str], tuple[StreamView, ...]]
    """The requests that this child has now."""
    load_on: Callable[[str], LoadView | None]
    """The load that ollamad itself makes on this child now."""
    move_waiting: Callable[[str, int, str], int]
    """Sends elsewhere what this life of this child has not begun to answer, and why; gives how many those are."""
    usual_gaps_s: Callable[[], Mapping[str, float]]
    changed: Bell
    """Rung after every change of a child."""
    tallies: Tallies


class Child:
    """Runs one child from its first event to the end of `run`."""

    def __init__(self, plan: ChildPlan, tools: Tools) -> None:
        self.plan = plan
        self.state = ChildState()
        self.known = Known(tools.changed)
        self.lines = Tape[str](tools.settings().supervision.lines_kept)
        """What it printed last, all of its lives."""
        self.dress: tuple[Path, Mapping[str, str]] | None = None
        """The program and the environment that its present process was started with."""
        self.turned_s = 0.0
        """When the driver last took something out of its mailbox, on the monotonic clock."""
        self._tools = tools
        self._mail: asyncio.Queue[Event] = asyncio.Queue()
        self._life: Life | None = None
        self._last_words: list[str] = []
        """What its last process printed before it died."""
        self._cause: Cause | None = None
        """What its present process is ended for, where it is for a fault."""
        self._retired = False
        self._log = log.bind(child=plan.id)

    @property
    def is_first_starting(self) -> bool:
        """Whether its first process has been asked for, and is neither ready nor gone yet."""
        return self.state.life <= 1 and self.state.phase in {Phase.STOPPED, Phase.STARTING}

    def tell(self, event: Event) -> None:
        """Something happened, or is asked for; once it is retired, nobody can want it up again."""
        if not (self._retired and isinstance(event, WantUp | Restart | Reset)):
            self._mail.put_nowait(event)

    def retire(self) -> None:
        """Want it down for good: `run` returns when it is."""
        self._retired = True
        self.tell(WantDown())

    def distrust(self, life: int) -> None:
        """A connection to this life failed: send it nothing until it has answered again."""
        if life == self.state.life and self._life is not None:
            self.known.trust(trusted=False)
            self._life.look()

    def given(self) -> None:
        """It has a request more: if it rests, it is asked how it is as soon as a busy one is."""
        if self._life is not None:
            self._life.given()

    def look_again(self) -> None:
        """What it has loaded, or how often it is to be asked, has changed by our own doing: ask it now."""
        if self._life is not None:
            self._life.look()

    def has_begun(self, life: int, model: str) -> None:
        """An answer with this model has begun to come from this life."""
        if life == self.state.life:
            self.known.expect(model)

    def released(self) -> None:
        """Some request is over: a child that drains may be done."""
        if self.state.phase is Phase.DRAINING and not self.streams():
            self.tell(Idle(self.state.life))

    def streams(self) -> tuple[StreamView, ...]:
        """The requests that it has now."""
        return self._tools.streams(self.plan.id)

    def loading(self) -> Loading | None:
        """The load that ollamad itself has told it to make."""
        load = self._tools.load_on(self.plan.id)
        return None if load is None or load.asked_s is None else Loading(load.model, load.asked_s)

    def usual_gaps_s(self) -> Mapping[str, float]:
        """The longest usual pause of a stream, by model."""
        return self._tools.usual_gaps_s()

    def gpu_busy(self) -> bool | None:
        """Whether its GPUs have worked lately."""
        return self._tools.devices.busy(self.plan.gpus) if self.plan.gpus else None

    def pinning(self, members: frozenset[int]) -> Pinning:
        """Whether its processes are where they were pinned; a fault is told when it begins and when it is over."""
        found = self._tools.devices.pinning(self.plan.gpus, members, self.known.residents, self.known.stirred_s)
        news = self.known.news_of(found)
        if news is True:
            self._log.warning("child is not where it was pinned", fault=found.proof.value, text=found.text)
        elif news is False:
            self._log.info("child is where it was pinned")
        return found

    def hold(self, pids: frozenset[int]) -> Holding | None:
        """What its processes have on its GPUs."""
        gpus = self.plan.gpus
        return self._tools.devices.hold(gpus, pids, self.known.vram_bytes) if gpus else None

    async def freed(self, held: Holding | None) -> None:
        """Return when that is free, or it takes too long."""
        if held is not None:
            await self._tools.devices.freed(held, self._tools.settings().supervision.vram_wait_s)

    async def run(self) -> None:
        """Drive the machine until it was wanted down for good and is."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                event = await self._next_event()
                self.turned_s = time.monotonic()
                before = self.state
                self.state, actions = step(
                    before,
                    event,
                    time.monotonic(),
                    restart_policy(self._tools.settings()),
                    random.random(),  # noqa: S311
                )
                tell_step(self._log, before, self.state, Facts(self.known, self.streams, self._last_words))
                self._tally(before, event)
                for action in actions:
                    self._perform(action, tasks)
                if self.state != before:
                    self._tools.changed.ring()
                    self.released()
                if self._retired and self.state.phase is Phase.STOPPED:
                    return

    async def _next_event(self) -> Event:
        if self.state.deadline_s is None:
            return await self._mail.get()
        try:
            async with asyncio.timeout(max(0.0, self.state.deadline_s - time.monotonic())):
                return await self._mail.get()
        except TimeoutError:
            return Tick()

    def _perform(self, action: Action, tasks: asyncio.TaskGroup) -> None:
        if isinstance(action, Spawn):
            self._spawn(action.life, tasks)
        elif self._life is not None:
            self._do(action, self._life, tasks)

    def _do(self, action: Terminate | KillRunner | MoveWaiting | Kill, life: Life, tasks: asyncio.TaskGroup) -> None:
        match action:
            case Terminate():
                life.terminate()
            case KillRunner(model=model, reason=reason):
                self._log.error("child is stuck, ending its runner", model=model, reason=reason)
                tasks.create_task(life.kill_runner(model), name=f"{self.plan.id} kill runner")
            case MoveWaiting(life=number):
                moved = self._tools.move_waiting(self.plan.id, number, UNANSWERED)
                self._log.warning("child leaves probes unanswered", misses=self.state.misses, requests_moved=moved)
            case Kill():
                life.kill()

    def _spawn(self, number: int, tasks: asyncio.TaskGroup) -> None:
        """Start a process now, so that a signal decided next finds it."""
        tools = self._tools
        try:
            port = tools.outfit().claim_port(self.plan.id)
            environment = tools.outfit().environment(self.plan, port)
            program = tools.program.stamp()
            process = ServeProcess([*dies_with_us(), tools.program.path, "serve"], environment)
        except (OSError, StartError) as error:
            self.tell(Gone(number, f"could not be started: {error}"))
            return
        self.dress = (tools.program.path, environment)
        self.known = Known(tools.changed, pid=process.pid, port=port, program=program)
        timeout_s = tools.settings().supervision.probe_timeout_s
        client = ChildClient(tools.session, f"http://127.0.0.1:{port}", timeout_s)
        watch = Watch(Watched(number, process, client, port), self.known, self, tools.settings, self.tell)
        self._life = Life(self.plan.id, process, client, watch, self.known, self.lines.append)
        self._log.info("child started", life=number, pid=process.pid, port=port)
        tasks.create_task(self._live(number, self._life), name=f"{self.plan.id} life {number}")

    async def _live(self, number: int, life: Life) -> None:
        """One process, until nothing of it is left."""
        reason = "abandoned"
        try:
            reason = await life.run(self)
        finally:
            self._last_words = list(life.last_words.lines)
            self._life = None
            self.known = Known(self._tools.changed)
            self.tell(Gone(number, reason))

    def _tally(self, before: ChildState, event: Event) -> None:
        """Count what the last step changed."""
        self._cause = cause_of(before, event, self.state, self._cause)
        self._tools.tallies.happened(of_child(self.plan.id, before, self.state, time.monotonic()))
        if self.state.deaths > before.deaths:
            self._tools.tallies.died(self.plan.id, self._cause or Cause.EXITED)
            self._cause = None
