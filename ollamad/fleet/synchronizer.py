"""The owner of all changes of models: what one child has come to hold, every child holds.

It runs no change itself: it says whose turn it is (`changes`), shares downloads (`pulls`), and afterwards makes the
stores equal, in threads. Between changes it looks at the stores on a timer, for what happened behind its back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import aiohttp
import structlog

from ollamad.config.schema import Models
from ollamad.fleet.changes import Changes, Leases
from ollamad.fleet.models_view import CopyView, ModelsView, PruneReport, PullView, SyncReport
from ollamad.fleet.notices import Notices
from ollamad.fleet.places import remember_mode, stores
from ollamad.fleet.pulls import Options, Pull, Pulls
from ollamad.fleet.room import Room
from ollamad.fleet.tallies import SyncTally
from ollamad.fleet.wanted import Wanted
from ollamad.fleet.workers import Workers
from ollamad.ollama.names import Name, parse
from ollamad.store.plan import Remove, Role, Rules, Spread
from ollamad.store.prune import disk_bytes, find_waste, remove_waste
from ollamad.store.rounds import Rounds, Settled
from ollamad.store.ways import WAYS, Effort

log = structlog.get_logger()

DAY_S: Final = 86_400.0
MADE: Final = tuple(way for way, _ in WAYS)
"""The ways in which a blob comes into a store that did not have it."""


class Synchronizer:
    """Keeps the models of all children the same."""

    def __init__(
        self,
        models: Models,
        fleet: Leases,
        children: Callable[[], Sequence[str]],
        session: aiohttp.ClientSession,
        tally: SyncTally,
        notices: Notices,
    ) -> None:
        """`children` gives their names as they are now, the first of them the primary."""
        self._tally = tally
        self.changes = Changes(fleet, one_store=models.store == "shared")
        self._models = models
        self._fleet = fleet
        self._children = children
        self._home = str(Path.home())
        self._workers = Workers(models.workers)
        self._rounds = Rounds(
            (),
            Rules(models.conflicts, models.settle_s, now_s=0.0),
            models.remember_deleted_days * DAY_S,
        )
        self._look_up_stores()
        self.room = Room(self._workers, self._roots, models.disk_free_min_bytes, notices)
        self._pulls = Pulls(
            self.changes,
            session,
            self.settle,
            self.room.need,
            attempts_max=models.pull_attempts_max,
            pulls_max=models.pulls_max,
        )
        self._insecure = frozenset(map(str.lower, models.insecure_registries))
        self._wanted = Wanted(models, fleet, session, self.pull, self.where)
        self._where: dict[str, frozenset[str]] = {}
        self._looking = asyncio.Lock()
        self._hurry = asyncio.Event()
        self._last: SyncReport | None = None

    @property
    def read_timeout_s(self) -> float:
        """How long a child may take to list its models."""
        return self._models.read_timeout_s

    @property
    def per_child(self) -> bool:
        """Whether each child has a store of its own."""
        return self._models.store == "per-child"

    async def run(self) -> None:
        """Look after the models until cancelled."""
        try:
            await self._workers.do(self._rounds.clear)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.room.run(), name="room")
                tasks.create_task(self._pulls.run(), name="pulls")
                tasks.create_task(self._wanted.run(), name="wanted models")
                tasks.create_task(self._keep_equal(), name="synchronizer")
        finally:
            self._workers.close()

    def stop(self) -> None:
        """The daemon is on its way out: give up what nobody waits for."""
        self._pulls.cancel()
        self._workers.stop()

    async def sync(self, *, verify: bool = False) -> SyncReport:
        """Look at all stores and make them equal; with `verify`, read every blob and mend the corrupt ones."""
        async with self._looking:
            await self._workers.do(self._look_up_stores)
            problems: tuple[str, ...] = ()
            if verify:
                async with self._workers.effort() as effort:
                    problems = await self._workers.do(self._rounds.corrupt, effort)
            survey = await self._workers.do(self._rounds.survey, _now_s())
            self._where = dict(survey.models)
            settled = [found for key in survey.unequal if (found := await self._settled_if_free(key)) is not None]
            report = _report(len(survey.models), settled, (*problems, *survey.problems))
            self._tell(report)
            self._last = report
            self._tally.round_over(good=not report.problems)
            return report

    async def settle(
        self, key: str, tell: Callable[[Effort], None] = lambda _: None, *, delete: bool = False
    ) -> Settled:
        """Make all stores equal in one model (a `Name.key`), which the caller holds."""
        tidy = self.changes.running <= 1
        await self._workers.do(self._look_up_stores)
        async with self._workers.effort(tell) as effort:
            settled = await self._workers.do(self._rounds.settle, key, effort, _now_s(), delete=delete, tidy=tidy)
        self._tally.brought(
            {way.value: count for way, count in settled.ways.items() if way in MADE}, effort.copied_bytes
        )
        if self.per_child:
            self._where[key] = await self._workers.do(self._rounds.where, key)
        return settled

    async def bring(self, child: str, names: Iterable[Name] = (), digests: Sequence[str] = ()) -> None:
        """Let a child that is about to work with these have them. Raises StoreError."""
        if not self.per_child:
            return
        for name in names:
            if child not in await self.where(name.key):
                await self.settle(name.key)
        async with self._workers.effort() as effort:
            await self._workers.do(self._rounds.bring_blobs, child, digests, effort)

    def pull(self, name: Name, options: Options) -> Pull:
        """The download of this model, joined where it is under way. Raises CapacityError.

        What the configuration says of its registry goes before what the request says: clients send `insecure` as false
        where nobody has said anything.
        """
        if name.host.lower() in self._insecure:
            options = {**options, "insecure": True}
        return self._pulls.join(name, options)

    def give_up(self, name: Name) -> bool:
        """Give up a model's downloads that nobody waits for. Whether somebody waits for another."""
        return self._pulls.cancel(name.key)

    async def remove(self, name: Name) -> Settled:
        """Delete a model from every store. What it could not be deleted from is in `problems`."""
        async with self.changes.holding(name.key):
            return await self.settle(name.key, delete=True)

    async def where(self, key: str) -> frozenset[str]:
        """The stores that have a model (a `Name.key`) whole, as far as is known; looked at where nothing is."""
        known = self._where.get(key)
        if known:
            return known
        found = await self._workers.do(self._rounds.where, key)
        if found and self.per_child:
            self._where[key] = found
            self._hurry.set()  # somebody pulled it from a child directly
        return found

    async def lacking(self, model: str | None) -> frozenset[tuple[str, int]]:
        """The lives of children that lack a model which others have: not to be asked to run it."""
        name = parse(model) if model and self.per_child else None
        having = await self.where(name.key) if name else None
        if not having:
            return frozenset()
        children = self._fleet.snapshot().children
        return frozenset((child.id, child.life) for child in children if child.id not in having)

    async def prune(self, *, dry_run: bool, grace_s: float | None = None) -> PruneReport:
        """Take away what nobody needs. Raises StoreError where a change is under way, or a manifest can't be read."""
        grace_s = self._models.prune_grace_s if grace_s is None else grace_s
        async with self.changes.alone():
            found = [each for root in self._roots() for each in await self._workers.do(find_waste, root, _now_s())]
            waste = [each for each in found if each.age_s >= grace_s]
            if not dry_run:
                await self._workers.do(remove_waste, waste)
        spared = len(found) - len(waste)
        report = PruneReport(dry_run, tuple(str(each.path) for each in waste), disk_bytes(waste), spared)
        log.info("pruned", dry_run=dry_run, files=len(report.files), disk_bytes=report.disk_bytes)
        return report

    def view(self) -> ModelsView:
        """What there is to see."""
        return ModelsView(
            store=self._models.store,
            pulls=tuple(_pull_view(pull) for pull in self._pulls.open),
            copies=tuple(
                CopyView(effort.what, effort.done_bytes, effort.total_bytes) for effort in self._workers.copying
            ),
            ensure=self._wanted.ensure,
            preload=self._wanted.preload,
            sync=self._last,
        )

    def _roots(self) -> list[Path]:
        return [store.root for store in self._rounds.stores if store.role is Role.FULL]

    def _look_up_stores(self) -> None:
        """Children come and go with GPUs and reloads, and a store that was in use before becomes a follower."""
        self._rounds.use(stores(self._models, self._children(), self._home))

    async def _keep_equal(self) -> None:
        """A round at start, on a timer, and when there is a reason; with one store, one round after a switch."""
        while self.per_child or len(self._rounds.stores) > 1:
            self._hurry.clear()
            report = await self.sync()
            if not report.problems:
                with suppress(OSError):  # told by the round that can't write there
                    await self._workers.do(remember_mode, self._models, self._home)
                if not self.per_child:
                    return
            with suppress(TimeoutError):
                async with asyncio.timeout(self._models.reconcile_interval_s):
                    await self._hurry.wait()

    async def _settled_if_free(self, key: str) -> Settled | None:
        """None where somebody changes that model: whoever does sees to it."""
        if self.changes.is_held(key):
            return None
        async with self.changes.holding(key):
            return await self.settle(key)

    def _tell(self, report: SyncReport) -> None:
        """Say what a round did, and each trouble once, not every round."""
        known = (*self._last.notes, *self._last.problems) if self._last else ()
        if report.spread or report.removed:
            log.info("models synchronized", spread=report.spread, removed=report.removed, **(report.blobs or {}))
        for note in report.notes:
            if note not in known:
                log.warning("models differ", note=note)
        for problem in report.problems:
            if problem not in known:
                log.error("store not as it should be", problem=problem)


def _report(models: int, settled: Sequence[Settled], problems: tuple[str, ...]) -> SyncReport:
    ways = {way: sum(each.ways[way] for each in settled) for way in MADE}
    actions = [action for each in settled for action in each.plan.actions]
    return SyncReport(
        at_s=time.monotonic(),
        models=models,
        spread=len({action.key for action in actions if isinstance(action, Spread)}),
        removed=len({action.key for action in actions if isinstance(action, Remove)}),
        blobs={way.value: number for way, number in ways.items()},
        notes=tuple(note for each in settled for note in each.plan.notes),
        problems=tuple(dict.fromkeys((*problems, *(text for each in settled for text in each.problems)))),
    )


def _pull_view(pull: Pull) -> PullView:
    latest = pull.latest
    return PullView(
        model=pull.name.short,
        status=latest.status if latest else "waiting",
        completed_bytes=latest.completed_bytes if latest else 0,
        total_bytes=latest.total_bytes if latest else 0,
        listeners=pull.listeners,
    )


def _now_s() -> float:
    """The wall clock: what is compared with it are the times of files."""
    return datetime.now(UTC).timestamp()
