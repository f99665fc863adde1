"""What an operator may do to the fleet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, aclosing, asynccontextmanager, nullcontext
from math import isfinite
from typing import Final

import structlog

from ollamad.config import Config
from ollamad.config.load import did_you_mean
from ollamad.errors import ConfigError, NoAnswer, OperationFailed, Refusal, StartError, UnknownChild, reason_in
from ollamad.fleet.child import Child
from ollamad.fleet.fleet import Fleet
from ollamad.fleet.notices import CONFIGURATION
from ollamad.fleet.reload import reload
from ollamad.fleet.rolling import Tell, rolling_restart
from ollamad.fleet.tape import Missed
from ollamad.ollama.client import ChildClient
from ollamad.ollama.names import canonical, parse
from ollamad.ollama.progress import Record
from ollamad.routing.snapshot import Snapshot
from ollamad.supervision.state import Drain, Reset, Restart, WantUp

log = structlog.get_logger()

NO_GENERATE: Final = "does not support generate"
"""What Ollama says of a model that only embeds."""


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
                try:
                    config = await asyncio.to_thread(self._reread)
                    await reload(self._fleet, config, self._take, tell)
                except (ConfigError, StartError) as error:
                    self._fleet.notices.tell(CONFIGURATION, _refused(error))
                    raise

    def _take(self, config: Config) -> None:
        self._fleet.notices.tell(CONFIGURATION, None)
        self._applied(config)

    def explain(self, model: str) -> Mapping[str, object]:
        """What would be decided now on a request for this model, and how each child stands to it."""
        decision = self._fleet.explain(model)
        return {
            "verdict": decision.verdict.value,
            "child": decision.child,
            "reason": decision.reason,
            "expected_s": round(decision.expected_s, 3) if isfinite(decision.expected_s) else None,
            "children": decision.explain(),
        }

    async def pull(self, model: str, tell: Tell, *, insecure: bool = False) -> None:
        """Get a model, for all children; goes on where a download of it is under way. Raises OperationFailed.

        Broken off, it leaves the download going, and who deletes the model gives that up: nobody may be left who asked.
        """
        name = parse(model)
        if name is None:
            raise OperationFailed(f'"{model}" is no name of a model')
        last: Record | None = None
        options = {"insecure": True} if insecure else {}
        try:
            async with aclosing(self._fleet.synchronizer.pull(name, options).follow(waits=False)) as records:
                async for last in records:
                    if not last.error:
                        tell(_pulled(last))
        except Refusal as refusal:
            raise OperationFailed(str(refusal)) from refusal
        if last is None or last.error:
            raise OperationFailed(last.error if last else f"the pull of {model} came to nothing")

    async def load(self, model: str, children: Sequence[str], keep_alive: int | str | None, tell: Tell) -> None:
        """Load a model on these children, all at once, or where routing wants it. Raises OperationFailed."""
        name = canonical(model)
        chosen = [self._child(child) for child in children] or [self._wanted_for(name)]
        async with asyncio.TaskGroup() as tasks:
            loads = [tasks.create_task(self._load_on(child, name, keep_alive, tell)) for child in chosen]
        if problems := [problem for load in loads if (problem := load.result()) is not None]:
            raise OperationFailed("; ".join(problems))

    def _wanted_for(self, model: str) -> Child:
        decision = self._fleet.explain(model)
        if decision.child is None:
            raise OperationFailed(f"no child can load {model} now: {decision.reason}")
        return self._child(decision.child)

    async def _load_on(self, child: Child, model: str, keep_alive: int | str | None, tell: Tell) -> str | None:
        """Load on one child; gives why that failed."""
        name, port, life = child.plan.id, child.known.port, child.state.life
        if port is None:
            return f"{name} is not ready: {child.state.reason or child.state.phase.value}"
        tell({"child": name, "step": "loads", "model": model})
        client = ChildClient(self._fleet.session, f"http://127.0.0.1:{port}", self._fleet.config.models.read_timeout_s)
        try:
            answer = await client.bring_in(model, {}, embeds=False, keep_alive=keep_alive)
            if not answer.loaded and NO_GENERATE in answer.text:
                answer = await client.bring_in(model, {}, embeds=True, keep_alive=keep_alive)
        except NoAnswer as error:
            return f"{name}: {error}"
        if not answer.loaded:
            return f"{name}: {reason_in(answer.text.encode())}"
        child.has_begun(life, model)
        self._fleet.look_again(name)
        tell({"child": name, "step": "loaded", "model": model})
        return None

    async def sync(self, tell: Tell) -> None:
        """Make all stores equal. Raises OperationFailed for what could not be done; the next round tries again."""
        report = await self._fleet.synchronizer.sync()
        facts = {"models": report.models, "spread": report.spread, "removed": report.removed, **(report.blobs or {})}
        for note in report.notes:
            tell({"step": "note", "text": note})
        tell({"step": "synchronized", **facts})
        if report.problems:
            raise OperationFailed("; ".join(report.problems))

    async def prune(self, tell: Tell, *, dry_run: bool, now: bool) -> None:
        """Take away what no model needs; with `dry_run` only say what that is. Raises StoreError.

        What changed within `models.prune_grace_s` is spared, but for `now`.
        """
        report = await self._fleet.synchronizer.prune(dry_run=dry_run, grace_s=0.0 if now else None)
        for file in report.files:
            tell({"step": "would delete" if dry_run else "deleted", "file": file})
        spared = {"spared": f"{report.spared}, too young: --now takes them too"} if report.spared else {}
        facts = {"dry_run": dry_run, "files": len(report.files), "disk_bytes": report.disk_bytes, **spared}
        tell({"step": "pruned", **facts})

    def _child(self, name: str) -> Child:
        child = self._fleet.children.get(name)
        if child is None:
            hint = did_you_mean(name, self._fleet.children) or f"; there are {', '.join(self._fleet.children)}"
            raise UnknownChild(f'there is no child "{name}"{hint}')
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


def _refused(error: ConfigError | StartError) -> str:
    """A configuration that can't be used, as long as it lies there."""
    problems = [str(problem) for problem in error.problems] if isinstance(error, ConfigError) else [str(error)]
    more = f" and {len(problems) - 1} more, `ollamad check` tells them" if len(problems) > 1 else ""
    return f"the new configuration was refused, the one before is in force until a restart: {problems[0]}{more}"


def _pulled(record: Record) -> dict[str, object]:
    """A step of a download."""
    sizes = {"completed_bytes": record.completed_bytes, "total_bytes": record.total_bytes} if record.total_bytes else {}
    return {"step": record.status, **sizes}
