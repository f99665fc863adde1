"""What an operator may do to the fleet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext

import structlog

from ollamad.config import Config
from ollamad.config.load import did_you_mean
from ollamad.errors import OperationFailed, UnknownChild
from ollamad.fleet.child import Child
from ollamad.fleet.fleet import Fleet
from ollamad.fleet.reload import reload
from ollamad.fleet.rolling import Tell, rolling_restart
from ollamad.fleet.tape import Missed
from ollamad.routing.snapshot import Snapshot
from ollamad.supervision.state import Drain, Reset, Restart, WantUp

log = structlog.get_logger()


class Operations:
    """Each call says what is wanted; the phase machines see to the rest. Long ones run one at a time."""

    def __init__(
        self,
        fleet: Fleet,
        reread: Callable[[], Config],
        applied: Callable[[Config], None],
        reloading: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """`reread` gives the configuration as its sources have it now; `applied` hears of one taken into use.

        `reloading` is entered for as long as a reload goes on.
        """
        self._fleet = fleet
        self._reread = reread
        self._applied = applied
        self._reloading = reloading
        self._busy_with: str | None = None

    def snapshot(self) -> Snapshot:
        """What is true now."""
        return self._fleet.whole_snapshot()

    def drain(self, child: str) -> None:
        """Let it finish what it has, up to a deadline, then stop it and keep it down. Raises UnknownChild."""
        self._child(child).tell(Drain())

    def undrain(self, child: str) -> None:
        """Let it serve again. Raises UnknownChild."""
        self._child(child).tell(WantUp())

    def restart(self, child: str) -> None:
        """Let it finish what it has, then run it as a new process. Raises UnknownChild."""
        self._child(child).tell(Restart())

    def reset(self, child: str) -> None:
        """Forget its deaths and its quarantine, and start it now. Raises UnknownChild."""
        self._child(child).tell(Reset())

    def lines(self, child: str) -> Sequence[str]:
        """What it printed last, oldest first. Raises UnknownChild."""
        return self._child(child).lines.kept

    def follow(self, child: str) -> AsyncIterator[str | Missed]:
        """What it printed last, and all that it prints, until it is no child any more. Raises UnknownChild."""
        return self._child(child).lines.read()

    async def rolling_restart(self, tell: Tell) -> None:
        """Restart all children, one at a time. Raises OperationFailed."""
        async with self._alone("a rolling restart"):
            await rolling_restart(self._fleet, tuple(self._fleet.children), tell)

    async def reload(self, tell: Tell) -> None:
        """Read the configuration again, and take it into use. Raises ConfigError or StartError: nothing changed then.

        Raises OperationFailed where a child that it restarted did not come back; the configuration is in force then.
        """
        with self._reloading():
            async with self._alone("a reload"):
                config = await asyncio.to_thread(self._reread)
                await reload(self._fleet, config, self._applied, tell)

    def explain(self, model: str) -> Mapping[str, object]:
        """What would be decided now on a request for this model, and how each child stands to it."""
        decision = self._fleet.explain(model)
        return {
            "verdict": decision.verdict.value,
            "child": decision.child,
            "reason": decision.reason,
            "expected_s": round(decision.expected_s, 3),
            "children": decision.explain(),
        }

    async def sync(self, tell: Tell) -> None:
        """Make all stores equal. Raises OperationFailed for what could not be done; the next round tries again."""
        report = await self._fleet.synchronizer.sync()
        facts = {"models": report.models, "spread": report.spread, "removed": report.removed, **(report.blobs or {})}
        for note in report.notes:
            tell({"step": "note", "text": note})
        tell({"step": "synchronized", **facts})
        if report.problems:
            raise OperationFailed("; ".join(report.problems))

    async def prune(self, tell: Tell, *, dry_run: bool) -> None:
        """Take away what no model needs; with `dry_run` only say what that is. Raises StoreError."""
        report = await self._fleet.synchronizer.prune(dry_run=dry_run)
        for file in report.files:
            tell({"step": "would delete" if dry_run else "deleted", "file": file})
        tell({"step": "pruned", "dry_run": dry_run, "files": len(report.files), "disk_bytes": report.disk_bytes})

    def _child(self, name: str) -> Child:
        child = self._fleet.children.get(name)
        if child is None:
            hint = did_you_mean(name, self._fleet.children) or f"; there are {', '.join(self._fleet.children)}"
            raise UnknownChild(f"there is no child {name!r}{hint}")
        return child

    @asynccontextmanager
    async def _alone(self, what: str) -> AsyncIterator[None]:
        if self._busy_with is not None:
            raise OperationFailed(f"{self._busy_with} is under way; try again when it is done")
        self._busy_with = what
        try:
            yield
        finally:
            self._busy_with = None
