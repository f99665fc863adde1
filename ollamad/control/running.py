"""Operations that take long: each has an id, goes on when who asked for it leaves, and can be asked for again.

One TaskGroup owns them all. An operation that is over is kept a while with its last progress, so that "how did it end?"
has an answer.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import structlog

from ollamad.control.operations import Tell
from ollamad.errors import ConfigError, OllamadError, OperationFailed
from ollamad.fleet.tape import Tape

log = structlog.get_logger()


class State(Enum):
    """How an operation stands."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    """The daemon stopped before it was done."""


@dataclass(frozen=True, slots=True)
class Step:
    """Something that an operation has told."""

    at_s: float
    """Seconds since its start."""
    facts: Mapping[str, object]


@dataclass(slots=True, eq=False)
class Operation:
    """One long operation and what it has told."""

    id: str
    kind: str
    about: str | None
    """What it is done to, where several of its kind may run at once: a model's name."""
    uid: int
    """The user who asked for it."""
    started_s: float
    steps: Tape[Step]
    """What it has told; closed when it is over."""
    state: State = State.RUNNING
    ended_s: float | None = None
    error: str | None = None
    problems: tuple[str, ...] = ()
    """Every problem of a configuration that was refused."""

    @property
    def seconds(self) -> float:
        """For how long it runs, or ran."""
        return round((self.ended_s or time.monotonic()) - self.started_s, 3)

    def tell(self, facts: Mapping[str, object]) -> None:
        """One more step of progress."""
        self.steps.append(Step(self.seconds, dict(facts)))

    def end(self, state: State, error: str | None = None, problems: tuple[str, ...] = ()) -> None:
        """It is over."""
        self.ended_s = time.monotonic()
        self.state, self.error, self.problems = state, error, problems
        self.steps.close()

    def summary(self) -> dict[str, Any]:
        """How it stands, as JSON."""
        told: dict[str, Any] = {"operation": self.id, "kind": self.kind, "state": self.state.value}
        told |= {"about": self.about, "seconds": self.seconds, "uid": self.uid}
        if self.error is not None:
            told["error"] = self.error
        if self.problems:
            told["problems"] = list(self.problems)
        return told


Work = Callable[[Tell], Awaitable[None]]


class Running:
    """All long operations, those that are over and still kept included."""

    def __init__(self, *, operations_kept: int, progress_kept: int) -> None:
        self._operations_kept = operations_kept
        self._progress_kept = progress_kept
        self._all: dict[str, Operation] = {}
        self._tasks: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Own the operations until cancelled, which cancels them."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            try:
                await asyncio.Event().wait()
            finally:
                self._tasks = None

    def start(self, kind: str, work: Work, uid: int, about: str | None = None) -> Operation:
        """Start one. Raises OperationFailed while another of its kind runs, or where the daemon is stopping.

        `about` tells apart those of a kind that may run side by side.
        """
        if self._tasks is None:
            raise OperationFailed("ollamad is just starting, or stopping")
        if running := next((one for one in self._all.values() if _runs(one, kind, about)), None):
            follow = f"ollamactl operations {running.id} --follow"
            told = kind if about is None else f"{kind} of {about}"
            raise OperationFailed(f"{told} runs already; follow it with: {follow}")
        operation = Operation(
            f"{kind}-{secrets.token_hex(3)}", kind, about, uid, time.monotonic(), Tape[Step](self._progress_kept)
        )
        self._all[operation.id] = operation
        self._forget()
        self._tasks.create_task(self._perform(operation, work), name=operation.id)
        return operation

    def get(self, name: str) -> Operation | None:
        """The operation with this id, while it is kept."""
        return self._all.get(name)

    def all(self) -> tuple[Operation, ...]:
        """All that are kept, oldest first."""
        return tuple(self._all.values())

    def _forget(self) -> None:
        over = [one.id for one in self._all.values() if one.state is not State.RUNNING]
        for name in over[: max(0, len(over) - self._operations_kept)]:
            del self._all[name]

    async def _perform(self, operation: Operation, work: Work) -> None:
        log.info("operation starts", operation=operation.id, uid=operation.uid)
        try:
            await work(operation.tell)
        except ConfigError as error:
            operation.end(State.FAILED, "the configuration has problems", tuple(map(str, error.problems)))
        except OllamadError as error:
            operation.end(State.FAILED, str(error))
        except asyncio.CancelledError:
            operation.end(State.CANCELLED, "ollamad stopped before it was done")
            raise
        except Exception:  # the edge: one operation's fault must not end the daemon
            log.exception("operation failed", operation=operation.id)
            operation.end(State.FAILED, "a fault of ollamad's own; its log has the details")
        else:
            operation.end(State.DONE)
        facts = {"problems": operation.problems} if operation.problems else {}
        tell = log.warning if operation.state is State.FAILED else log.info
        tell("operation over", operation=operation.id, state=operation.state.value, error=operation.error, **facts)


def _runs(operation: Operation, kind: str, about: str | None) -> bool:
    return operation.state is State.RUNNING and (operation.kind, operation.about) == (kind, about)
