"""One child: the driver of its phase machine, and the only writer of what is known of it.

`supervision.phase.step` decides; this performs what it decided and reports what happened, through one mailbox. Each
life, one process, is one task: it starts the server, drains its output, asks it whether it is ready and then what it
has loaded, and when the server exits ends what is left of its group before it says `Gone`.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
import structlog

from ollamad.config.schema import Config
from ollamad.errors import NoAnswer, StartError
from ollamad.fleet.bell import Bell
from ollamad.fleet.plan import ChildPlan
from ollamad.ollama.client import ChildClient
from ollamad.ollama.output import parse_line
from ollamad.ollama.process import ServeProcess
from ollamad.routing.snapshot import Resident
from ollamad.supervision.backoff import RestartPolicy
from ollamad.supervision.phase import (
    Action,
    Answered,
    ChildState,
    Event,
    Gone,
    Kill,
    Missed,
    Phase,
    Spawn,
    Terminate,
    Tick,
    Want,
    WantDown,
    WantUp,
    step,
)

log = structlog.get_logger()

SWEEP_PATIENCE_S: Final = 10.0
"""How long to wait for a killed group to be gone; only a process stuck in a driver takes longer."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What every child is given to work with."""

    config: Config
    program: Path
    session: aiohttp.ClientSession
    environment: Callable[[ChildPlan, int], Mapping[str, str]]
    """The whole environment of a child, for a port."""
    claim_port: Callable[[str], int]
    """A free port for this child, another than its siblings'."""
    changed: Bell
    """Rung after every change of a child."""


class Child:
    """Runs one child from `start` to the end of `run`."""

    def __init__(self, plan: ChildPlan, tools: Tools) -> None:
        self.plan = plan
        self.state = ChildState()
        self.trusted = False
        self.residents: tuple[Resident, ...] = ()
        self.residents_at_s: float | None = None
        self.version: str | None = None
        self.port: int | None = None
        self.last_lines: deque[str] = deque(maxlen=tools.config.supervision.lines_kept)
        self._tools = tools
        self._policy = _policy(tools.config)
        self._mail: asyncio.Queue[Event] = asyncio.Queue()
        self._process: ServeProcess | None = None
        self._look = Bell()
        self._last_error = ""
        self._log = log.bind(child=plan.id)

    @property
    def pid(self) -> int | None:
        """The server's process, while there is one."""
        return self._process.pid if self._process else None

    @property
    def is_first_starting(self) -> bool:
        """Whether its first process has been asked for, and is neither ready nor gone yet."""
        return self.state.life <= 1 and self.state.phase in {Phase.STOPPED, Phase.STARTING}

    def start(self) -> None:
        """Want it up."""
        self._mail.put_nowait(WantUp())

    def stop(self) -> None:
        """Want it down; `run` returns when it is."""
        self._mail.put_nowait(WantDown())

    def distrust(self, life: int) -> None:
        """A connection to this life failed: send it nothing until it has answered again."""
        if life == self.state.life:
            self._set(trusted=False)
            self._look.ring()

    def has_loaded(self, life: int, model: str) -> None:
        """A life has begun an answer with this model: it is resident, before `/api/ps` was asked again."""
        if life == self.state.life and not any(resident.model == model for resident in self.residents):
            self.residents = (*self.residents, Resident(model, None, None, None))

    async def run(self) -> None:
        """Drive the machine until it was wanted down and is."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                event = await self._next_event()
                before = self.state
                self.state, actions = step(self.state, event, time.monotonic(), self._policy, random.random())  # noqa: S311
                self._tell(before)
                for action in actions:
                    self._perform(action, tasks)
                if self.state != before:
                    self._tools.changed.ring()
                if isinstance(event, WantDown | Gone) and self.state.phase is Phase.STOPPED:
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
        match action:
            case Spawn(life=life):
                self._spawn(life, tasks)
            case Terminate():
                if self._process:
                    self._process.terminate()
            case Kill():
                if self._process:
                    self._process.kill()

    def _spawn(self, life: int, tasks: asyncio.TaskGroup) -> None:
        """Start a process now, so that a signal decided next finds it."""
        self.last_lines.clear()
        self._last_error = ""
        try:
            port = self._tools.claim_port(self.plan.id)
            process = ServeProcess([self._tools.program, "serve"], self._tools.environment(self.plan, port))
        except (OSError, StartError) as error:
            self._mail.put_nowait(Gone(life, f"could not be started: {error}"))
            return
        self.port, self._process = port, process
        self._log.info("child started", life=life, pid=process.pid, port=port)
        tasks.create_task(self._live(life, process, port), name=f"{self.plan.id} life {life}")

    async def _live(self, life: int, process: ServeProcess, port: int) -> None:
        """One process, until nothing of it is left."""
        reason = "abandoned"
        try:
            async with asyncio.TaskGroup() as tasks:
                output = tasks.create_task(process.drain(self._said))
                watch = tasks.create_task(self._watch(life, process, port))
                await process.exited()
                self._set(trusted=False)
                watch.cancel()
                if left := await process.sweep(SWEEP_PATIENCE_S):
                    self._log.error("processes outlive kill", pids=left)
                    output.cancel()
            reason = process.reason()
        finally:
            process.abandon()
            self._process = None
            self.residents, self.residents_at_s = (), None
            self._mail.put_nowait(Gone(life, f"{reason}: {self._last_error}" if self._last_error else reason))

    async def _watch(self, life: int, process: ServeProcess, port: int) -> None:
        """Ask until it is ready, then keep asking what it has loaded."""
        supervision = self._tools.config.supervision
        client = ChildClient(self._tools.session, f"http://127.0.0.1:{port}", supervision.probe_timeout_s)
        while not (await self._answers(client) and process.listens_on(port)):  # noqa: ASYNC110 - it rings no bell
            await asyncio.sleep(supervision.probe_interval_s)
        self._set(trusted=True)
        self._mail.put_nowait(Answered(life))
        while True:
            lives = await self._answers(client)
            self._mail.put_nowait(Answered(life) if lives else Missed(life))
            self._set(trusted=lives)
            if lives:
                await self._ask_residents(client)
            if self.trusted or not lives:  # else a connection failed while we asked: look again at once
                await self._look.heard(supervision.resident_interval_s)

    def _set(self, *, trusted: bool) -> None:
        if trusted is not self.trusted:
            self.trusted = trusted
            self._tools.changed.ring()

    async def _answers(self, client: ChildClient) -> bool:
        try:
            self.version = await client.version()
        except NoAnswer:
            return False
        return True

    async def _ask_residents(self, client: ChildClient) -> None:
        try:
            self.residents = await client.residents()
            self.residents_at_s = time.monotonic()
        except NoAnswer as error:
            self._log.debug("loaded models unknown", error=str(error))

    def _said(self, text: str) -> None:
        line = parse_line(text)
        if line.text:
            self.last_lines.append(line.text)
            self._last_error = line.text if line.level == "error" else self._last_error
            self._log.log(_LEVELS[line.level], "child output", line=line.text)

    def _tell(self, before: ChildState) -> None:
        """Say what the last step changed."""
        state = self.state
        if state.deaths > before.deaths:
            wait_s = state.deadline_s - time.monotonic() if state.phase is Phase.BACKOFF and state.deadline_s else 0.0
            self._log.warning(
                "child died",
                reason=state.reason,
                failures=state.failures,
                restart_in_s=round(max(0.0, wait_s), 2),
                said=list(self.last_lines),
            )
        elif state.phase is not before.phase:
            match state.phase:
                case Phase.READY:
                    self._log.info("child ready", life=state.life, version=self.version, port=self.port)
                case Phase.STOPPING if state.want is Want.UP:
                    self._log.error("child does not answer, ending it", reason=state.reason)
                case Phase.STOPPED:
                    self._log.info("child stopped")
                case _:
                    return


_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def _policy(config: Config) -> RestartPolicy:
    return RestartPolicy(
        start_timeout_s=config.ollama.start_timeout_s,
        stop_timeout_s=config.ollama.stop_timeout_s,
        backoff_initial_s=config.supervision.backoff_initial_s,
        backoff_max_s=config.supervision.backoff_max_s,
        backoff_jitter=config.supervision.backoff_jitter,
        healthy_after_s=config.supervision.healthy_after_s,
        misses_max=config.supervision.misses_max,
    )
