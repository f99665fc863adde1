"""A simulated child: Ollama's scheduler and its runners on one GPU, in virtual time.

As in Ollama: one runner a model, with so many slots and a first-come queue that has no bound; requests for what is not
loaded go through one line, whose head blocks the others (one load at a time); room is made by unloading the runner
that has been idle longest, or by waiting for one to become idle; a runner that nobody used for the keep-alive goes.
All runners share the GPU's time. A slot keeps its last prompt, and only what is new of the next one is computed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from bench.routing.clock import Clock
from bench.routing.parts import RUNNER_BYTES, Asked, GpuKind, Model

KEEP_ALIVE_S = 300.0
UNLOAD_S = 0.5
PREFILL_SHARE = 0.7
"""Of a runner's time, while it decodes too: llama-server mixes prompt chunks into its batches."""
FAIL_S = 0.02
"""In which a broken child fails."""


@dataclass(slots=True, eq=False)
class Stream:
    """A request in a slot."""

    asked: Asked
    prefill_left: float
    cached: int
    began_s: float
    decode_left: float
    ended: Callable[[Asked, bool], None]
    prefilled_s: float | None = None


@dataclass(slots=True, eq=False)
class Runner:
    """A loaded model."""

    model: Model
    slots: int
    vram_bytes: int
    since_s: float
    idle_since_s: float
    streams: list[Stream] = field(default_factory=list)
    queue: deque[tuple[Asked, Callable[[Asked, bool], None]]] = field(default_factory=deque)
    held: list[Asked] = field(default_factory=list)
    """What the free slots keep, oldest first."""

    @property
    def idle(self) -> bool:
        """Whether nobody uses it."""
        return not self.streams and not self.queue


@dataclass(slots=True, eq=False)
class Pending:
    """A request for what is not loaded. `asked` is None for one that only loads."""

    model: Model
    asked: Asked | None
    ended: Callable[[Asked, bool], None]
    loaded: Callable[[], None]


class Child:
    """One `ollama serve` on one GPU."""

    def __init__(self, name: str, gpu: GpuKind, clock: Clock, *, slots: int, context_tokens: int) -> None:
        self.name = name
        self.gpu = gpu
        self.slots = slots
        self.loads = 0
        self.in_flight = 0
        self.broken = False
        self.finished: Stream | None = None
        """The last stream that ended, for whoever reads the counts at a response's end."""
        self.runners: dict[str, Runner] = {}
        self._clock = clock
        self._context_tokens = context_tokens
        self._pending: deque[Pending] = deque()
        self._loading = False
        self._version = 0
        self._advanced_s = 0.0

    def send(self, asked: Asked, ended: Callable[[Asked, bool], None]) -> None:
        """A request arrives. `ended` is told whether it went well."""
        self.in_flight += 1
        if self.broken:
            self._clock.at(self._clock.now_s + FAIL_S, lambda: self._end(asked, ended, well=False))
            return
        runner = self.runners.get(asked.model.name)
        if runner is None:
            self._pending.append(Pending(asked.model, asked, ended, _nothing))
            self._pump()
        else:
            self._join(runner, asked, ended)

    def load(self, model: Model, loaded: Callable[[], None]) -> None:
        """Load a model, for nobody yet."""
        self._pending.append(Pending(model, None, _ignore, loaded))
        self._pump()

    def unload(self, name: str) -> None:
        """Unload an idle model."""
        runner = self.runners.get(name)
        if runner is not None and runner.idle:
            del self.runners[name]

    def _join(self, runner: Runner, asked: Asked, ended: Callable[[Asked, bool], None]) -> None:
        self._advance()
        runner.queue.append((asked, ended))
        self._fill(runner)
        self._plan()

    def _fill(self, runner: Runner) -> None:
        while runner.queue and len(runner.streams) < runner.slots:
            asked, ended = runner.queue.popleft()
            cached = self._take_slot(runner, asked)
            now_s = self._clock.now_s
            stream = Stream(asked, max(1, asked.prompt_tokens - cached), cached, now_s, asked.output_tokens, ended)
            runner.streams.append(stream)

    @staticmethod
    def _take_slot(runner: Runner, asked: Asked) -> int:
        """The free slot that shares most, else the one unused longest; gives what is cached there."""
        best = max(runner.held, key=asked.shared_tokens, default=None)
        if best is not None and (cached := asked.shared_tokens(best)) > 0.1 * asked.prompt_tokens:
            runner.held.remove(best)
            return min(cached, asked.prompt_tokens - 1)
        if runner.held and len(runner.held) + len(runner.streams) >= runner.slots:
            runner.held.pop(0)
        return 0

    # Loading: one line, one at a time.

    def _pump(self) -> None:
        while self._pending and not self._loading:
            head = self._pending[0]
            runner = self.runners.get(head.model.name)
            if runner is not None:
                self._pending.popleft()
                self._served(head, runner)
            elif self._has_room(head.model):
                self._begin(head.model)
            else:
                idle = [runner for runner in self.runners.values() if runner.idle]
                if not idle:
                    return
                del self.runners[min(idle, key=lambda runner: runner.idle_since_s).model.name]

    def _served(self, head: Pending, runner: Runner) -> None:
        head.loaded()
        if head.asked is not None:
            self._join(runner, head.asked, head.ended)

    def _has_room(self, model: Model) -> bool:
        taken = sum(runner.vram_bytes + RUNNER_BYTES for runner in self.runners.values())
        return not self.runners or taken + self._needs(model) + RUNNER_BYTES <= self.gpu.memory_bytes

    def _needs(self, model: Model) -> int:
        return model.vram_bytes(self._context_tokens, self.slots)

    def _begin(self, model: Model) -> None:
        self._loading = True
        self.loads += 1
        now_s = self._clock.now_s
        slots = 1 if model.embeds else self.slots
        runner = Runner(model, slots, self._needs(model), now_s, now_s)

        def loaded() -> None:
            self._loading = False
            runner.since_s = runner.idle_since_s = self._clock.now_s
            self.runners[model.name] = runner
            self._expire_later(runner)
            self._pump()

        self._clock.at(now_s + self.gpu.load_s(model), loaded)

    def _expire_later(self, runner: Runner) -> None:
        def look() -> None:
            if self.runners.get(runner.model.name) is not runner:
                return
            left_s = runner.idle_since_s + KEEP_ALIVE_S - self._clock.now_s
            if runner.idle and left_s <= 0:
                del self.runners[runner.model.name]
                self._pump()
            else:
                self._clock.at(self._clock.now_s + max(left_s, 1.0), look)

        self._clock.at(runner.idle_since_s + KEEP_ALIVE_S, look)

    # The GPU's time, shared by the runners that have something to do.

    def _advance(self) -> None:
        """Account for the time since the last change."""
        gone_s = self._clock.now_s - self._advanced_s
        self._advanced_s = self._clock.now_s
        if gone_s > 0:
            for stream, prefill_per_s, decode_per_s in self._rates():
                if prefill_per_s:
                    stream.prefill_left -= gone_s * prefill_per_s
                else:
                    stream.decode_left -= gone_s * decode_per_s

    def _rates(self) -> list[tuple[Stream, float, float]]:
        """Each stream's tokens a second, of its prompt or of its answer."""
        active = [runner for runner in self.runners.values() if runner.streams]
        found = []
        for runner in active:
            reading = [stream for stream in runner.streams if stream.prefill_left > EPSILON]
            writing = len(runner.streams) - len(reading)
            share = (PREFILL_SHARE if writing else 1.0) if reading else 0.0
            step_s = self.gpu.step_s(runner.model, max(1, writing))
            for stream in runner.streams:
                if stream.prefill_left > EPSILON:
                    rate = self.gpu.prefill_per_s(runner.model) * share / len(reading) / len(active)
                    found.append((stream, rate, 0.0))
                else:
                    found.append((stream, 0.0, (1.0 - share) / step_s / len(active)))
        return found

    def _plan(self) -> None:
        """Look again when the next stream reaches its first token or its end."""
        self._version += 1
        version = self._version
        next_s = min(
            (
                stream.prefill_left / prefill_per_s if prefill_per_s else stream.decode_left / decode_per_s
                for stream, prefill_per_s, decode_per_s in self._rates()
            ),
            default=None,
        )
        if next_s is not None:
            self._clock.at(self._clock.now_s + max(0.0, next_s), lambda: self._changed(version))

    def _changed(self, version: int) -> None:
        if version != self._version:
            return
        self._advance()
        ended = []
        for runner in list(self.runners.values()):
            for stream in list(runner.streams):
                if stream.prefill_left <= EPSILON and stream.prefilled_s is None:
                    stream.prefilled_s = stream.asked.first_s = self._clock.now_s
                if stream.prefill_left <= EPSILON and stream.decode_left <= EPSILON:
                    runner.streams.remove(stream)
                    runner.held.append(stream.asked)
                    ended.append((runner, stream))
            self._fill(runner)
        self._plan()
        for runner, stream in ended:
            runner.idle_since_s = self._clock.now_s
            self.finished = stream
            self._end(stream.asked, stream.ended, well=True)
        if ended:
            self._pump()

    def _end(self, asked: Asked, ended: Callable[[Asked, bool], None], *, well: bool) -> None:
        self.in_flight -= 1
        if well:
            asked.done_s = self._clock.now_s
        ended(asked, well)


EPSILON = 1e-6


def _nothing() -> None:
    """Nobody asked to be told."""


def _ignore(_asked: Asked, _well: bool) -> None:  # noqa: FBT001
    """Nobody waits for its end."""
