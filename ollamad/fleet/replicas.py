"""Loads and unloads models on children: what the dispatcher decides, what the operator wants, what is worth having.

A load belongs to the daemon. It is one for all who wait for it, one at a time on each child, and a client that gives
up does not break it off.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Protocol

import aiohttp
import structlog

from ollamad.config.schema import Config
from ollamad.errors import NoAnswer
from ollamad.fleet.bell import Bell
from ollamad.fleet.residence import Residence
from ollamad.fleet.tallies import Tallies
from ollamad.ollama.client import ChildClient, LoadAnswer
from ollamad.routing.memory import Memory, Policy
from ollamad.routing.request import Key, Need, Request, Work
from ollamad.routing.room import is_too_large
from ollamad.routing.snapshot import ChildView, LoadView, Resident, Snapshot
from ollamad.routing.upkeep import WantedLoad, cold_copies, wanted_loads, worthwhile_load
from ollamad.supervision.state import Phase

log = structlog.get_logger()

UPKEEP_S: Final = 1.0
CATALOGUE_S: Final = 60.0
"""How often the sizes of the models in the store are read; sooner when one is asked for that is new."""
CATALOGUE_MIN_S: Final = 5.0
DRAIN_MAX_S: Final = 120.0
"""A load that waits for requests of the models in its way gives up after this long, and is decided on anew."""
FAILED_LOAD: Final = 3
"""As how many failures in a row a load that fails counts: nobody else need try it there for a while."""


class Children(Protocol):
    """What is needed of the fleet."""

    def snapshot(self) -> Snapshot:
        """What is true now."""

    def distrust(self, child: str, life: int) -> None:
        """A connection to this life has failed."""

    def look_again(self, child: str) -> None:
        """What it has loaded has changed."""


@dataclass(frozen=True, slots=True)
class _Order:
    """One load to perform."""

    child: str
    life: int
    port: int
    kind: str
    request: Request
    model: str
    evicts: tuple[str, ...]


class Replicas:
    """The only one who loads and unloads unasked; what an operator or a rolling restart loads goes past it."""

    def __init__(
        self,
        memory: Memory,
        session: aiohttp.ClientSession,
        settings: Callable[[], Config],
        children: Children,
        changed: Bell,
        tallies: Tallies,
    ) -> None:
        self.residence = Residence()
        self._memory = memory
        self._session = session
        self._settings = settings
        self._children = children
        self._changed = changed
        self._tallies = tallies
        self._loads: dict[str, LoadView] = {}
        self._orders: asyncio.Queue[_Order] = asyncio.Queue()
        """Loads that were begun, and are still to be performed."""
        self._catalogue_s = 0.0

    def load_on(self, child: str) -> LoadView | None:
        """The load under way on a child."""
        return self._loads.get(child)

    def residents(self, child: str, life: int, said: tuple[Resident, ...]) -> tuple[Resident, ...]:
        """What a child has loaded, where its `/api/ps` said this."""
        return self.residence.of(child, life, said)

    def begin(self, child: ChildView, request: Request, evicts: tuple[str, ...]) -> None:
        """Begin a load, so that the next snapshot shows it."""
        model, port = request.model, child.port
        if model is None or port is None or child.id in self._loads:
            return
        self._loads[child.id] = LoadView(model, request.shape, time.monotonic(), evicts)
        self._orders.put_nowait(_Order(child.id, child.life, port, child.kind, request, model, evicts))

    async def unload(self, child: ChildView, model: str) -> None:
        """Unload a model from a child that has it."""
        if child.port is None:
            return
        try:
            await self._client(child.port).let_go(model)
        except NoAnswer as error:
            log.warning("model not unloaded", child=child.id, model=model, error=str(error))
            return
        self.gone(child, model)

    def came(self, child: str, life: int, key: Key) -> None:
        """A child has loaded a model in this shape, whoever asked it to."""
        self._memory.load_worked(key)
        self.residence.loaded(child, life, *key)
        self._children.look_again(child)
        self._changed.ring()

    def gone(self, child: ChildView, model: str) -> None:
        """A child has let go of a model, and of the prompts that its slots held, whoever asked it to."""
        self.residence.unloaded(child.id, child.life, model)
        self._memory.prefixes.unloaded(child.id, child.life, model)
        self._children.look_again(child.id)
        self._changed.ring()

    async def run(self) -> None:
        """Perform loads, and keep up what is wanted, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_up(), name="upkeep")
            while True:
                order = await self._orders.get()
                tasks.create_task(self._perform(order), name=f"load {order.model} on {order.child}")

    # One load.

    async def _perform(self, order: _Order) -> None:
        facts = log.bind(child=order.child, model=order.model, shape=order.request.shape or None)
        try:
            if not await self._make_room(order):
                facts.debug("load given up", evicts=order.evicts)
                return
            facts.info("model loads", evicted=order.evicts)
            began_s = time.monotonic()
            self._loads[order.child] = replace(self._loads[order.child], asked_s=began_s)
            answer = await self._client(order.port).bring_in(
                order.model,
                json.loads(order.request.shape or "{}"),
                embeds=order.request.work is Work.EMBED,
                keep_alive=-1 if self._memory.rule(order.model).stays else None,
            )
            self._learn(order, answer, time.monotonic() - began_s)
        except NoAnswer as error:
            facts.warning("load failed", error=str(error))
            self._failed(order, time.monotonic())
            self._children.distrust(order.child, order.life)
        finally:
            del self._loads[order.child]
            self._changed.ring()

    def _learn(self, order: _Order, answer: LoadAnswer, took_s: float) -> None:
        now_s = time.monotonic()
        key = (order.model, order.request.shape)
        facts = log.bind(child=order.child, model=order.model, took_s=round(took_s, 2))
        if answer.loaded:
            self._memory.knowledge.loaded(order.model, order.kind, took_s, now_s)
            self._tallies.loaded(order.model, took_s)
            self._memory.breakers.succeeded(order.child, order.life, order.model)
            self.came(order.child, order.life, key)
            facts.info("model loaded")
        elif answer.refused:
            self._memory.load_refused(key, now_s)
            facts.info("model not loaded ahead of its requests", status=answer.status, said=answer.text[:200])
        else:
            self._failed(order, now_s)
            facts.warning("load failed", status=answer.status, said=answer.text[:200])

    def _failed(self, order: _Order, now_s: float) -> None:
        self._tallies.load_failed(order.child)
        self._memory.breakers.failed(order.child, order.life, order.model, now_s, FAILED_LOAD)
        self._memory.load_failed((order.model, order.request.shape), now_s)

    async def _make_room(self, order: _Order) -> bool:
        """Wait until nothing uses what has to go, and unload it. False where the load is not to be any more."""
        deadline_s = time.monotonic() + DRAIN_MAX_S
        while (child := self._alive(order)) is not None:
            if not any(child.busy.get(model, 0) for model in order.evicts):
                for model in order.evicts:
                    await self.unload(child, model)
                return True
            unwanted = (order.model, order.request.shape) not in self._memory.lines
            if unwanted or not await self._changed.heard(deadline_s - time.monotonic()):
                return False
        return False

    def _alive(self, order: _Order) -> ChildView | None:
        """The child of a load, while it is the life that the load was meant for, and is not on its way out."""
        children = (child for child in self._children.snapshot().children if child.phase is Phase.READY)
        return next((child for child in children if (child.id, child.life) == (order.child, order.life)), None)

    # What nobody waits for.

    async def _keep_up(self) -> None:
        while True:
            snapshot = self._children.snapshot()
            if not snapshot.stopping:
                await self._read_catalogue(snapshot)
                self._observe(snapshot)
                await self._balance(self._children.snapshot())
            await asyncio.sleep(UPKEEP_S)

    async def _balance(self, snapshot: Snapshot) -> None:
        for wanted in wanted_loads(snapshot, self._memory):
            self._begin_wanted(wanted)
        if self._memory.rules.policy is not Policy.COST or not self._settings().routing.load_ahead:
            return
        ahead = worthwhile_load(self._children.snapshot(), self._memory)
        if ahead is not None:
            self._begin_wanted(ahead)
        for unload in tuple(cold_copies(snapshot, self._memory)):
            log.info("copy unloaded", child=unload.child.id, model=unload.model, reason="the others can do its work")
            await self.unload(unload.child, unload.model)

    def _begin_wanted(self, wanted: WantedLoad) -> None:
        if wanted.child.id not in self._loads:
            self.begin(wanted.child, Request(Need.RUNNER, wanted.model), wanted.evicts)

    def _observe(self, snapshot: Snapshot) -> None:
        """Learn sizes from what is loaded, and forget what was held against processes that are gone."""
        knowledge = self._memory.knowledge
        self._memory.keep({(child.id, child.life) for child in snapshot.children})
        for child in snapshot.children:
            for resident in child.residents:
                knowledge.read_at_s[resident.model] = snapshot.taken_at_s
                if (
                    child.memory_bytes is not None
                    and resident.vram_bytes
                    and resident.vram_bytes == resident.size_bytes
                ):
                    knowledge.saw_vram(resident.model, resident.vram_bytes)

    async def _read_catalogue(self, snapshot: Snapshot) -> None:
        known = self._memory.knowledge.files_bytes
        new = any(model not in known for model, _ in self._memory.lines)
        due_s = self._catalogue_s + (CATALOGUE_MIN_S if new or not known else CATALOGUE_S)
        child = next((child for child in snapshot.children if child.routable), None)
        if child is None or child.port is None or (self._catalogue_s and snapshot.taken_at_s < due_s):
            return
        self._catalogue_s = snapshot.taken_at_s
        try:
            stored = await self._client(child.port).catalogue()
        except NoAnswer as error:
            log.debug("sizes of models unknown", error=str(error))
            return
        if not stored:
            return
        self._memory.knowledge.stored({one.model: (one.size_bytes, one.family) for one in stored})
        self._warn_of_large(snapshot)

    def _warn_of_large(self, snapshot: Snapshot) -> None:
        """A model that no child has room for runs partly on the CPU: say so once, with what to do."""
        pinned = [child for child in snapshot.children if child.memory_bytes is not None]
        for model in self._memory.knowledge.files_bytes:
            large = bool(pinned) and all(is_too_large(model, child, self._memory) for child in pinned)
            if large and self._memory.knowledge.tell_once(model):
                log.warning(
                    "model fits on no child whole",
                    model=model,
                    hint="it will run partly on the CPU; give it a wide child with [gpus] groups",
                )

    def _client(self, port: int) -> ChildClient:
        return ChildClient(self._session, f"http://127.0.0.1:{port}", self._settings().supervision.probe_timeout_s)
