"""Downloads that clients share: two who pull one model wait for one download, and see all of its progress.

A download belongs to the daemon and not to who asked for it: it goes on when all have left, and the next who asks finds
it further on. It says `success` only when every child has the model.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Final, Protocol

import aiohttp
import structlog

from ollamad.errors import CapacityError, NoAnswer, OllamadError, Refusal
from ollamad.fleet.bell import Bell
from ollamad.fleet.changes import Changes
from ollamad.ollama.names import Name
from ollamad.ollama.progress import SUCCESS, Record, failed, made, progress
from ollamad.store.rounds import Settled
from ollamad.store.ways import Effort

log = structlog.get_logger()

Options = Mapping[str, object]

LOOK_S: Final = 60.0
BUSY_RETRY_S: Final = 60
NO_ROOM: Final = "no space left on device"
"""As Ollama says it."""
ROOM_AGAIN: Final = "; what has come is kept for the next pull: make room for the rest, or `ollamactl prune --now`"


class Settle(Protocol):
    """How a model comes to every child."""

    def __call__(self, key: str, tell: Callable[[Effort], None]) -> Awaitable[Settled]:
        """Make all stores equal in one model, held by the caller."""


class Pull:
    """One download, and what there is to tell of it."""

    def __init__(self, name: Name, options: Options) -> None:
        self.name = name
        self.body = json.dumps({**options, "model": name.short, "stream": True}).encode()
        self.listeners = 0
        self.outcome: Record | Refusal | None = None
        self.task: asyncio.Task[None] | None = None
        self._records: dict[str, tuple[int, Record]] = {}
        self._told = 0
        self._news = Bell()

    @property
    def latest(self) -> Record | None:
        """The last thing there was to tell."""
        return max(self._records.values(), key=lambda told: told[0])[1] if self._records else None

    def tell(self, record: Record) -> None:
        """Something to tell everyone; an older record of the same topic is forgotten."""
        self._told += 1
        self._records[record.topic] = (self._told, record)
        self._news.ring()

    def end(self, outcome: Record | Refusal) -> None:
        """Tell how it ended; only the first end counts."""
        if self.outcome is None:
            self.outcome = outcome
            self._news.ring()

    async def follow(self, *, waits: bool = True) -> AsyncGenerator[Record]:
        """What has been told and what will be, to the end. Who is slow misses what was overtaken, nothing else.

        Who `waits` keeps it from being given up. Raises Refusal where no child would even begin.
        """
        self.listeners += waits
        seen = 0
        try:
            while True:
                fresh = sorted((told for told in self._records.values() if told[0] > seen), key=lambda told: told[0])
                for seen, record in fresh:  # noqa: B007 - it is read at the next turn
                    yield record
                if fresh:
                    continue
                if self.outcome is not None:
                    break
                await self._news.heard(LOOK_S)
        finally:
            self.listeners -= waits
        if isinstance(self.outcome, Refusal):
            raise self.outcome
        yield self.outcome


class Pulls:
    """All downloads of this daemon."""

    def __init__(
        self,
        changes: Changes,
        session: aiohttp.ClientSession,
        settle: Settle,
        need_room: Callable[[], Awaitable[None]],
        *,
        attempts_max: int,
        pulls_max: int,
    ) -> None:
        self._changes = changes
        self._session = session
        self._settle = settle
        self._need_room = need_room
        self._attempts_max = attempts_max
        self._pulls_max = pulls_max
        self._mail: asyncio.Queue[Pull] = asyncio.Queue()
        self._open: dict[tuple[str, str], Pull] = {}

    @property
    def open(self) -> tuple[Pull, ...]:
        """Those under way."""
        return tuple(self._open.values())

    def join(self, name: Name, options: Options) -> Pull:
        """The download of this model, begun unless it is under way. Raises CapacityError.

        `options` are the request's other fields, such as `insecure`: with others it is another download. Those that
        are empty or false say what their absence says, and only some clients write them down.
        """
        options = {field: value for field, value in options.items() if value}
        identity = (name.key, json.dumps(options, sort_keys=True))
        known = self._open.get(identity)
        if known is not None:
            return known
        if len(self._open) >= self._pulls_max:
            raise CapacityError(f"{len(self._open)} pulls are under way already; try again later", BUSY_RETRY_S)
        pull = self._open[identity] = Pull(name, options)
        self._mail.put_nowait(pull)
        return pull

    def cancel(self, key: str | None = None) -> bool:
        """Give up the downloads of a model, or all, that nobody waits for. Whether somebody waits for another."""
        attended = False
        for pull in self.open:
            if key in {None, pull.name.key}:
                attended |= pull.listeners > 0
                if not pull.listeners and pull.task is not None:
                    pull.task.cancel()
        return attended

    async def run(self) -> None:
        """Download what is asked for, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                pull = await self._mail.get()
                pull.task = tasks.create_task(self._run(pull), name=f"pull {pull.name.short}")

    async def _run(self, pull: Pull) -> None:
        log.info("pull begins", model=pull.name.short)
        try:
            await self._need_room()
            async with self._changes.holding(pull.name.key):
                pull.end(await self._attempts(pull))
        except Refusal as refusal:
            pull.end(refusal)
        except OllamadError as error:
            pull.end(failed(str(error)))
        finally:
            pull.end(failed("the pull was given up; ask again, what has come is kept"))
            self._open = {key: other for key, other in self._open.items() if other is not pull}
            why = pull.outcome.error if isinstance(pull.outcome, Record) else str(pull.outcome)
            if why:
                log.warning("pull ended", model=pull.name.short, error=why)
            else:
                log.info("pull ended", model=pull.name.short)

    async def _attempts(self, pull: Pull) -> Record:
        """Pull until it is there, whole: a child that dies in between costs nothing but time."""
        why = ""
        for _ in range(self._attempts_max):
            try:
                last = await self._download(pull)
            except NoAnswer as error:
                why = str(error)
                log.warning("pull goes on elsewhere", model=pull.name.short, reason=why)
                continue
            if last.error:
                return failed(f"{last.error}{ROOM_AGAIN}") if NO_ROOM in last.error else last
            settled = await self._settle(pull.name.key, lambda effort: _tell_copy(pull, effort))
            if settled.everywhere:
                return last
            why = "; ".join((*settled.problems, *settled.plan.notes)) or "it was deleted meanwhile"
            if settled.problems:  # in some store: another download changes nothing about that
                break
        return failed(f"{pull.name.short} is not on every child: {why}")

    async def _download(self, pull: Pull) -> Record:
        async with self._changes.child() as lease:
            last = failed("no progress at all")
            url = f"{lease.base_url}/api/pull"
            async with aclosing(progress(self._session, url, pull.body, lease.heard)) as records:
                async for record in records:
                    last = record
                    if not record.error and record.status != SUCCESS:
                        pull.tell(record)
        return last


def _tell_copy(pull: Pull, effort: Effort) -> None:
    """The copy to other children's stores, in Ollama's shape."""
    digest = effort.what.replace("-", ":", 1)
    pull.tell(made(f"copying {digest[7:19]}", digest, effort.total_bytes, effort.done_bytes))
