"""ollamad's own admission, decisions and learning, driven in virtual time.

Nothing of routing is copied here: this does what `fleet/dispatcher.py` and `fleet/replicas.py` do, with callbacks in
place of tasks.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from bench.routing.child import Child
from bench.routing.clock import Clock
from bench.routing.parts import Asked, Model
from ollamad.routing.admission import Admission, Load, Send
from ollamad.routing.decide import decide
from ollamad.routing.fair import Ticket
from ollamad.routing.knowledge import Tally, What
from ollamad.routing.memory import Memory, Policy, Rules
from ollamad.routing.request import Need, Request, Work
from ollamad.routing.snapshot import ChildView, LoadView, Resident, Snapshot
from ollamad.routing.upkeep import cold_copies, worthwhile_load
from ollamad.supervision.state import Phase, Want

TICK_S = 0.25
"""How often those in line are looked at although nothing has happened."""
UPKEEP_S = 1.0
UPKEEP_LASTS_S = 600.0


@dataclass(slots=True, eq=False)
class _Waiting:
    asked: Asked
    ended: Callable[[Asked], None]
    tried: frozenset[tuple[str, int]] = frozenset()


class Ours:
    """The balancer under test."""

    def __init__(
        self,
        children: Sequence[Child],
        clock: Clock,
        seed: int,
        models: Sequence[Model],
        *,
        policy: Policy = Policy.COST,
        context_tokens: int = 4096,
        memory: Callable[[Rules], Memory] = Memory,
    ) -> None:
        self._children = {child.name: child for child in children}
        self._clock = clock
        self._luck = random.Random(seed)
        self._models = {model.name: model for model in models}
        self.memory = memory(Rules(policy=policy, context_tokens=context_tokens))
        for model in models:
            self.memory.knowledge.files_bytes[model.name] = model.file_bytes
            if model.embeds:
                self.memory.knowledge.families[model.name] = "bert"
        self._admission = Admission(self.memory)
        self._waiting: dict[Ticket, _Waiting] = {}
        self._loads: dict[str, LoadView] = {}
        self._begun: set[str] = set()
        self._busy: dict[str, dict[str, int]] = {name: {} for name in self._children}
        self._in_flight = dict.fromkeys(self._children, 0)
        self._ticking = False
        self._asked_s = 0.0
        if policy is Policy.COST:
            clock.at(0.0, self._upkeep)

    def ask(self, asked: Asked, ended: Callable[[Asked], None]) -> None:
        """A request has come."""
        self._asked_s = self._clock.now_s
        self.memory.arrived(self._request(_Waiting(asked, ended)), self._clock.now_s)
        self._enter(_Waiting(asked, ended))

    def snapshot(self) -> Snapshot:
        """The fleet as routing sees it."""
        now_s = self._clock.now_s
        return Snapshot(now_s, tuple(self._view(child) for child in self._children.values()))

    def _enter(self, waiting: _Waiting) -> None:
        request = self._request(waiting)
        if self.memory.rules.policy is not Policy.COST:
            decision = decide(request, self.snapshot(), self.memory, self._luck.random())
            if decision.child is None:
                waiting.asked.failed = True
                waiting.ended(waiting.asked)
            else:
                self._send(waiting, decision.child)
            return
        key = request.key
        assert key is not None
        ticket = self._admission.enter(request, key, self._clock.now_s)
        self._waiting[ticket] = waiting
        self._pump()

    def _request(self, waiting: _Waiting) -> Request:
        asked = waiting.asked
        return Request(
            Need.RUNNER,
            asked.model.name,
            tried=waiting.tried,
            work=asked.work,
            client=asked.client,
            prompt_bytes=asked.prompt_bytes,
            prefix=asked.prefix,
        )

    def _view(self, child: Child) -> ChildView:
        return ChildView(
            id=child.name,
            want=Want.UP,
            phase=Phase.READY,
            trusted=True,
            in_flight=self._in_flight[child.name],
            slots=child.slots,
            life=1,
            residents=tuple(
                Resident(name, runner.vram_bytes, runner.vram_bytes, None, since_s=runner.since_s)
                for name, runner in child.runners.items()
            ),
            busy=self._busy[child.name],
            load=self._loads.get(child.name),
            kind=child.gpu.name,
            memory_bytes=child.gpu.memory_bytes,
        )

    def _pump(self) -> None:
        """Make every move there is."""
        self._start_ready_loads()
        while (move := self._admission.next_move(self.snapshot(), self._luck.random())) is not None:
            match move:
                case Send(ticket=ticket, decision=decision):
                    assert decision.child is not None
                    self._admission.leave(ticket, self._clock.now_s, served=True)
                    self._send(self._waiting.pop(ticket), decision.child)
                case Load(request=request, decision=decision):
                    assert request.model is not None
                    assert decision.child is not None
                    self._loads[decision.child] = LoadView(request.model, "", self._clock.now_s, decision.evicts)
                    self._start_ready_loads()
        if len(self._admission) and not self._ticking:
            self._ticking = True
            self._clock.at(self._clock.now_s + TICK_S, self._tick)

    def _tick(self) -> None:
        self._ticking = False
        self._pump()

    def _upkeep(self) -> None:
        """What the daemon does once a second; not once nothing has been asked for a while, or it would never end."""
        load = worthwhile_load(self.snapshot(), self.memory)
        if load is not None:
            self._loads[load.child.id] = LoadView(load.model, "", self._clock.now_s, load.evicts)
            self._start_ready_loads()
        for unload in list(cold_copies(self.snapshot(), self.memory)):
            self._children[unload.child.id].unload(unload.model)
        if self._clock.now_s < self._asked_s + UPKEEP_LASTS_S:
            self._clock.at(self._clock.now_s + UPKEEP_S, self._upkeep)

    def _start_ready_loads(self) -> None:
        """Begin what waited for the last request of a model that has to go."""
        for name, load in self._loads.items():
            if name in self._begun or any(self._busy[name].get(model, 0) for model in load.evicts):
                continue
            self._begun.add(name)
            child = self._children[name]
            for model in load.evicts:
                child.unload(model)
                self.memory.prefixes.unloaded(name, 1, model)
            child.load(self._models[load.model], partial(self._loaded, name, load.model, self._clock.now_s))

    def _loaded(self, name: str, model: str, began_s: float) -> None:
        took_s = self._clock.now_s - began_s
        del self._loads[name]
        self._begun.discard(name)
        self.memory.knowledge.loaded(model, self._children[name].gpu.name, took_s, self._clock.now_s)
        self._clock.at(self._clock.now_s, self._pump)

    def _send(self, waiting: _Waiting, name: str) -> None:
        child, asked, now_s = self._children[name], waiting.asked, self._clock.now_s
        model = asked.model.name
        self._busy[name][model] = self._busy[name].get(model, 0) + 1
        self._in_flight[name] += 1
        request = self._request(waiting)
        cached = self.memory.prefixes.held_blocks(name, 1, model, request.prefix) > 0
        self.memory.sent(request, name, 1, child.slots, now_s)

        def over(asked: Asked, well: bool) -> None:  # noqa: FBT001
            self._busy[name][model] -= 1
            self._in_flight[name] -= 1
            if well:
                self._learn(asked, child, now_s, cached=cached)
                self.memory.breakers.succeeded(name, 1, model)
                waiting.ended(asked)
            else:
                self.memory.breakers.failed(name, 1, model, self._clock.now_s)
                self._again(waiting, name)
            if self.memory.rules.policy is Policy.COST:
                self._pump()

        child.send(asked, over)

    def _again(self, waiting: _Waiting, name: str) -> None:
        waiting.tried |= {(name, 1)}
        if len(waiting.tried) >= min(3, len(self._children)):
            waiting.asked.failed = True
            waiting.ended(waiting.asked)
        else:
            self._enter(waiting)

    def _learn(self, asked: Asked, child: Child, sent_s: float, *, cached: bool) -> None:
        stream = child.finished
        assert stream is not None
        assert stream.asked is asked
        assert stream.prefilled_s is not None
        now_s = self._clock.now_s
        tally = Tally(
            prompt_tokens=asked.prompt_tokens,
            prompt_s=stream.prefilled_s - stream.began_s,
            output_tokens=asked.output_tokens,
            output_s=now_s - stream.prefilled_s,
        )
        model, kind = asked.model.name, child.gpu.name
        self.memory.knowledge.answered(model, kind, tally, asked.prompt_bytes, cached=cached)
        what = What.EMBED_S if asked.work is Work.EMBED else What.SERVICE_S
        self.memory.knowledge.learn(what, model, kind, now_s - sent_s)
