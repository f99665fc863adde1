"""All children together: started, watched, and seen as one snapshot. The one owner of what is true of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

import aiohttp
import msgspec
import structlog

from ollamad.config.schema import Config
from ollamad.fleet.bell import Bell
from ollamad.fleet.child import Child, Tools
from ollamad.fleet.devices import Devices
from ollamad.fleet.difference import in_force
from ollamad.fleet.dispatcher import Dispatcher, Lease
from ollamad.fleet.happenings import of_gpu
from ollamad.fleet.notices import Notices
from ollamad.fleet.outfit import Outfit
from ollamad.fleet.pauses import Pauses
from ollamad.fleet.plan import ChildPlan
from ollamad.fleet.replicas import Replicas
from ollamad.fleet.routing import Routing, limits_of
from ollamad.fleet.sight import Sight, Sources
from ollamad.fleet.starting import start_all
from ollamad.fleet.synchronizer import Synchronizer
from ollamad.fleet.tallies import Tallies
from ollamad.gpu.model import Gpu
from ollamad.ollama.program import Program
from ollamad.routing.decide import Decision, Request
from ollamad.routing.knowledge import Tally
from ollamad.routing.snapshot import Snapshot
from ollamad.supervision.gpu_health import Verdict
from ollamad.supervision.state import WantUp

log = structlog.get_logger()


class Fleet:
    """The children of this run. Everything that asks about them asks here."""

    def __init__(
        self,
        config: Config,
        plans: Sequence[ChildPlan],
        *,
        program: Program,
        instance: str,
        session: aiohttp.ClientSession,
        devices: Devices,
    ) -> None:
        self.started_with = self.config = config
        self.changed = Bell()
        self.program = program
        self.session = session
        self._instance = instance
        self._devices = devices
        self._stopping = False
        self._refusing = False
        self._pauses = Pauses()
        self.tallies = Tallies(
            models_max=config.status.models_max,
            requests_kept=config.status.requests_kept,
            events_kept=config.status.events_kept,
            keys_max=config.access.keys_max,
        )
        self._outfit = Outfit(config, plans, instance, self._ports)
        self._routing = Routing(config, self._outfit.context_length)
        memory = self._routing.memory
        self.replicas = Replicas(memory, session, lambda: self.config, self, self.changed, self.tallies)
        self._dispatcher = Dispatcher(
            self.changed, memory, self.snapshot, limits_of(config), self.replicas, self._given, self._returned
        )
        self._children = {plan.id: Child(plan, self._tools()) for plan in plans}
        self._sight = Sight(Sources(self._dispatcher, self.replicas, devices, program), self._children)
        self.shaping = asyncio.Lock()
        """Held by whoever adds and removes children."""
        self.notices = Notices()
        self.synchronizer = Synchronizer(
            config.models, self, lambda: tuple(self._children), session, self.tallies.sync, self.notices
        )
        self._runs: dict[str, asyncio.Task[None]] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._ending = asyncio.Event()

    @property
    def children(self) -> Mapping[str, Child]:
        """All children, in the order of the configuration."""
        return self._children

    @property
    def versions(self) -> Collection[str | None]:
        """Of the children's programs, each once; None is that of a child that has not said it."""
        return {child.known.version for child in self._children.values()}

    @property
    def gpus(self) -> tuple[Gpu, ...]:
        """All GPUs of the machine, with a child or without, by index."""
        return self._devices.gpus

    @property
    def telemetry_turned_s(self) -> float | None:
        """When telemetry last ended a round; None before its first."""
        return self._devices.turned_s

    async def run(self) -> None:
        """Start every child and keep them all until `stop`; returns when the last one is down."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            children = tuple(self._children.values())
            for child in children:
                self._run(child)
            self._devices.tell(self._judged)
            helpers = [
                tasks.create_task(self._devices.run(), name="devices"),
                tasks.create_task(self.program.watch(self.changed.ring), name="program"),
                tasks.create_task(start_all(children, self._outfit.home, self.changed), name="start"),
                tasks.create_task(self.synchronizer.run(), name="synchronizer"),
                tasks.create_task(self._mind_drains(), name="drains"),
                tasks.create_task(self._dispatcher.run(), name="dispatcher"),
                tasks.create_task(self.replicas.run(), name="replicas"),
                tasks.create_task(self._routing.run(), name="learned"),
            ]
            await self._ending.wait()  # a reload may leave no child for a moment, which is no end
            if self._runs:
                await asyncio.wait(self._runs.values())
            for helper in helpers:
                helper.cancel()

    def add(self, plan: ChildPlan) -> None:
        """Run one more child, unless all are to stop."""
        if self._ending.is_set():
            return
        self._devices.pin(plan.gpus)
        self._children[plan.id] = child = Child(plan, self._tools())
        self._run(child)
        for barred in filter(None, map(self._devices.barred, plan.gpus)):  # who was there when it was judged knows
            child.tell(barred)
        child.tell(WantUp())

    async def remove(self, name: str) -> None:
        """Stop a child that has no place any more, and forget it."""
        self._children[name].retire()
        await asyncio.wait({self._runs[name]})
        del self._runs[name]
        self._children.pop(name).lines.close()
        self._sight.forget(name)
        self.changed.ring()

    def configure(self, config: Config, plans: Sequence[ChildPlan]) -> None:
        """From now on go by this configuration; what runs keeps what it was started with until it is restarted."""
        self.config = config = in_force(self.config, config)
        self._outfit = Outfit(config, plans, self._instance, self._ports)
        self._routing.configure(config, self._outfit.context_length)
        self._dispatcher.limit(limits_of(config))
        for child in self._children.values():
            child.look_again()  # it may be asleep for an interval of before
        self.changed.ring()

    def is_dressed(self, child: Child) -> bool:
        """Whether a child runs with what it would be started with now; one without a process does."""
        port = child.known.port
        if child.dress is None or port is None:
            return True
        return child.dress == (self.program.path, self._outfit.environment(child.plan, port))

    def stop(self) -> None:
        """Stop every child; what still streams is cut."""
        self._ending.set()
        for child in self._children.values():
            child.retire()

    def abandon(self) -> None:
        """Kill what is left, and wait for nothing."""
        for run in self._runs.values():
            run.cancel()

    def leave(self) -> None:
        """Say that this ends soon; leases are given as before."""
        self._stopping = True

    def refuse(self) -> None:
        """From now on give no lease."""
        self._stopping = self._refusing = True
        self.synchronizer.stop()
        self.changed.ring()

    def lease(self, request: Request, *, wait: bool = True) -> AbstractAsyncContextManager[Lease]:
        """The right to send this request to a child; see `Dispatcher.lease`."""
        return self._dispatcher.lease(request, wait=wait)

    async def idle(self, timeout_s: float) -> bool:
        """Wait until no request is in flight; False when some still are after `timeout_s`."""
        return await self.changed.until(lambda: not self._dispatcher.total_in_flight, timeout_s)

    def failed(self, lease: Lease) -> None:
        """The child of this lease did not answer or broke off."""
        self._routing.failed(lease)
        self.distrust(lease.child, lease.life)

    def refused(self, lease: Lease) -> None:
        """The child of this lease answered with a 5xx."""
        self._routing.failed(lease)

    def answered(self, lease: Lease, model: str | None) -> None:
        """The child of this lease has begun its answer."""
        self._routing.answered(lease)
        if model is not None:
            self.tallies.meet(model)
        if model is not None and (child := self._children.get(lease.child)):
            child.has_begun(lease.life, model)

    def served(self, lease: Lease, tail: bytes) -> Tally | None:
        """The answer is whole; `tail` is how it ended. Gives what the child counted."""
        return self._routing.served(lease, tail)

    def loaded(self, lease: Lease) -> None:
        """The child of this lease has loaded its model."""
        if (key := lease.request.key) is not None:
            self.replicas.came(lease.child, lease.life, key)

    def distrust(self, name: str, life: int) -> None:
        """A connection to this life of a child failed."""
        if child := self._children.get(name):
            child.distrust(life)

    def look_again(self, name: str) -> None:
        """What a child has loaded has changed."""
        if child := self._children.get(name):
            child.look_again()

    @property
    def usual_options(self) -> Mapping[str, object]:
        """The runner options that the children have by themselves."""
        return {"num_ctx": self._outfit.context_length}

    def unloaded(self, model: str) -> None:
        """Every child has agreed to unload a model: where nobody uses it any more, it is gone."""
        for child in self.snapshot().children:
            if model in child.busy:
                self.look_again(child.id)
            else:
                self.replicas.gone(child, model)

    def explain(self, model: str) -> Decision:
        """What would be decided now on a request for this model, with the terms of every child."""
        return self._routing.explain(model, self.snapshot())

    def snapshot(self) -> Snapshot:
        """What is true now, but for the children's streams: so it costs as much on 5,000 of them as on one."""
        now_s = time.monotonic()
        views = self._sight.views(self.config, now_s)
        return Snapshot(now_s, views, self._dispatcher.waiting, stopping=self._stopping, refusing=self._refusing)

    def whole_snapshot(self) -> Snapshot:
        """What is true now, with the children's streams and the GPUs that have no child."""
        bare = self.snapshot()
        children = tuple(
            msgspec.structs.replace(child, streams=self._dispatcher.streams(child.id)) for child in bare.children
        )
        others = self._sight.others(self.gpus, bare.taken_at_s)
        return replace(bare, children=children, others=others, notes=self.notices.texts, derived={})

    def _given(self, lease: Lease) -> None:
        """A child has something to do."""
        if child := self._children.get(lease.child):
            child.given()

    def _returned(self, lease: Lease) -> None:
        """A request has ended: what its silences tell is learned."""
        if lease.model is not None and lease.heard_s is not None:
            self._pauses.note(lease.model, lease.longest_pause_s)
            self.tallies.paused(lease.model, lease.longest_pause_s)

    def _judged(self, uuid: str, verdict: Verdict) -> None:
        """A GPU's health has changed: its child must leave it, or may come back."""
        self.tallies.happened(of_gpu(gpu.index, verdict, time.monotonic()) for gpu in self.gpus if gpu.uuid == uuid)
        for child in self._children.values():
            if (news := self._devices.news(child.plan.gpus, uuid, verdict)) is not None:
                child.tell(news)

    def _run(self, child: Child) -> None:
        assert self._tasks is not None  # noqa: S101 - it runs
        self._runs[child.plan.id] = self._tasks.create_task(child.run(), name=child.plan.id)

    async def _mind_drains(self) -> None:
        """Whoever drains may be idle now that its last lease has come back."""
        while True:
            for child in self._children.values():
                child.released()
            await self._dispatcher.emptied.heard(None)

    def _tools(self) -> Tools:
        return Tools(
            settings=lambda: self.config,
            program=self.program,
            session=self.session,
            outfit=lambda: self._outfit,
            devices=self._devices,
            streams=self._dispatcher.streams,
            load_on=self.replicas.load_on,
            move_waiting=self._dispatcher.move_waiting,
            usual_gaps_s=self._pauses.usual_s,
            changed=self.changed,
            tallies=self.tallies,
        )

    def _ports(self) -> Mapping[str, int]:
        return {name: child.known.port for name, child in self._children.items() if child.known.port}
