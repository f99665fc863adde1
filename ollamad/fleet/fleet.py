"""All children together: started, watched, and seen as one snapshot."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final

import aiohttp
import structlog

from ollamad.config.checks import expand
from ollamad.config.schema import Config
from ollamad.fleet.bell import Bell
from ollamad.fleet.child import Child, Tools
from ollamad.fleet.dispatcher import Dispatcher, Lease
from ollamad.fleet.plan import ChildPlan
from ollamad.fleet.telemetry import Telemetry
from ollamad.ollama.environment import Host, Placement, child_environment, context_length
from ollamad.ollama.ports import free_port
from ollamad.routing.decide import Request
from ollamad.routing.snapshot import ChildView, Snapshot

log = structlog.get_logger()

KEY_LOOK_S: Final = 0.02


class Fleet:
    """The children of this run. Everything that asks about them asks here."""

    def __init__(
        self,
        config: Config,
        plans: Sequence[ChildPlan],
        *,
        program: Path,
        instance: str,
        session: aiohttp.ClientSession,
        telemetry: Telemetry,
    ) -> None:
        home = str(Path.home())
        self._config = config
        self._telemetry = telemetry
        self._stopping = False
        self._home = expand(config.ollama.home, home)
        self._host = Host(
            instance=instance,
            home=str(self._home),
            store=str(expand(config.models.path, home)),
            context_length=context_length(config.ollama.context_length, tuple(plan.vram_bytes for plan in plans)),
        )
        self.changed = Bell()
        tools = Tools(config, program, session, self._environment, self._claim_port, self.changed)
        self._children = {plan.id: Child(plan, tools) for plan in plans}
        self._dispatcher = Dispatcher(
            self.changed, waiting_max=config.proxy.waiting_max, ready_wait_s=config.proxy.ready_wait_s
        )

    async def run(self) -> None:
        """Start every child and keep them all until `stop`; returns when the last one is down."""
        async with asyncio.TaskGroup() as tasks:
            runs = [tasks.create_task(child.run(), name=child.plan.id) for child in self._children.values()]
            telemetry = tasks.create_task(self._telemetry.run(), name="telemetry")
            starting = tasks.create_task(self._start_all(), name="start")
            await asyncio.wait(runs)
            telemetry.cancel()
            starting.cancel()

    def stop(self) -> None:
        """Stop every child; what still streams is cut."""
        for child in self._children.values():
            child.stop()

    def refuse(self) -> None:
        """From now on give no lease."""
        self._stopping = True
        self.changed.ring()

    def lease(self, request: Request, *, wait: bool = True) -> AbstractAsyncContextManager[Lease]:
        """The right to send this request to a child; see `Dispatcher.lease`."""
        return self._dispatcher.lease(request, self.snapshot, wait=wait)

    async def idle(self, timeout_s: float) -> bool:
        """Wait until no request is in flight; False when some still are after `timeout_s`."""
        deadline_s = time.monotonic() + timeout_s
        while self._dispatcher.total_in_flight:
            if not await self.changed.heard(max(0.0, deadline_s - time.monotonic())):
                return False
        return True

    def failed(self, lease: Lease) -> None:
        """The child of this lease did not answer or broke off."""
        self._children[lease.child].distrust(lease.life)

    def answered(self, lease: Lease, model: str | None) -> None:
        """The child of this lease has begun its answer."""
        if model is not None:
            self._children[lease.child].has_loaded(lease.life, model)

    def snapshot(self) -> Snapshot:
        """What is true now."""
        return Snapshot(
            taken_at_s=time.monotonic(),
            children=tuple(self._view(child) for child in self._children.values()),
            waiting=self._dispatcher.waiting,
            stopping=self._stopping,
        )

    def _view(self, child: Child) -> ChildView:
        state = child.state
        return ChildView(
            id=child.plan.id,
            want=state.want,
            phase=state.phase,
            trusted=child.trusted,
            in_flight=self._dispatcher.in_flight(child.plan.id),
            streams=self._dispatcher.streams(child.plan.id),
            slots=self._config.ollama.num_parallel,
            life=state.life,
            residents=child.residents,
            residents_at_s=child.residents_at_s,
            gpus=tuple(self._telemetry.view(gpu) for gpu in child.plan.gpus),
            pid=child.pid,
            port=child.port,
            version=child.version,
            ready_since_s=state.ready_since_s,
            deaths=state.deaths,
            reason=state.reason,
        )

    async def _start_all(self) -> None:
        """Start all at once; but where the home holds no key yet, the first alone until it has made one, or is ready.

        Ollama writes `~/.ollama/id_ed25519` when it first starts, not atomically (0.33, cmd.go:2033): several at once
        would each make another.
        """
        first, *others = self._children.values()
        first.start()
        if others and not self._key().exists():
            while not self._key().exists() and first.is_first_starting:
                await self.changed.heard(KEY_LOOK_S)
        for child in others:
            child.start()

    def _key(self) -> Path:
        return self._home / ".ollama" / "id_ed25519.pub"

    def _environment(self, plan: ChildPlan, port: int) -> Mapping[str, str]:
        placement = Placement(plan.id, tuple(gpu.uuid for gpu in plan.gpus), port)
        return child_environment(os.environ, self._config.ollama, self._host, placement)

    def _claim_port(self, claimant: str) -> int:
        others = frozenset(child.port for child in self._children.values() if child.port and child.plan.id != claimant)
        return free_port(self._config.ollama.base_port, others)
