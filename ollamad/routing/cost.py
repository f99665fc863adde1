"""The cost policy: the child that is expected to give the first token soonest.

A free slot where the model is goes before everything: nothing is faster, and what is left is which one. Without one
the request waits here, not in a child, for whichever slot frees first; and if that takes longer than loading the model
once more elsewhere, with what the eviction costs others, a load is begun. A model that nobody has is loaded at once
while the children have time for it; the more of them are loading, the longer those who want it gather before, until
they have together waited as long as others will for what it displaces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf
from typing import Final

from ollamad.routing.case import Case
from ollamad.routing.decision import Decision, Standing, Terms, Verdict
from ollamad.routing.loads import Option, options
from ollamad.routing.memory import Memory
from ollamad.routing.queueing import Source, expected_wait_s
from ollamad.routing.request import Key, Request
from ollamad.routing.scorers import prefill_s, pressure_s
from ollamad.routing.snapshot import ChildView, Snapshot

ALIKE_S: Final = 0.02
"""Costs this near are equal."""
WORTH_IT: Final = 1.2
"""A further copy must promise a wait this many times shorter."""
COPY_HARM: Final = 2.0
"""What a further copy displaces counts so many times: its gain is a guess, that harm is paid again and again."""
HAVE: Final = frozenset({Standing.READY, Standing.FULL, Standing.LOADING})


def cheapest(
    request: Request, key: Key, fit: Sequence[ChildView], snapshot: Snapshot, memory: Memory, luck: float, place: int
) -> Decision:
    """Decide among children that can take the request. `place`: how many wait before it."""
    case = case_of(request, key, snapshot, memory, place)
    standings = case.standings(fit)
    if Standing.READY in standings:
        ready = [child for child, standing in zip(fit, standings, strict=True) if standing is Standing.READY]
        return _send(case, ready, luck)
    return _without_slot(case, fit, standings, thorough=False)


def explained(
    request: Request, key: Key, fit: Sequence[ChildView], snapshot: Snapshot, memory: Memory, luck: float, place: int
) -> Decision:
    """The same decision, with the terms of those children too that can't change it."""
    decision = cheapest(request, key, fit, snapshot, memory, luck, place)
    case = case_of(request, key, snapshot, memory, place)
    others = _without_slot(case, fit, case.standings(fit), thorough=True)
    shown = {terms.child for terms in decision.candidates}
    added = tuple(terms for terms in others.candidates if terms.child not in shown)
    return replace(decision, candidates=decision.candidates + added, rejected=others.rejected)


def case_of(request: Request, key: Key, snapshot: Snapshot, memory: Memory, place: int) -> Case:
    """What is the same for all children."""
    model = key[0]
    tokens = memory.knowledge.tokens(model, request.prompt_bytes)
    return Case(request, model, key, snapshot, memory, tokens, memory.embeds(model, snapshot.taken_at_s), place)


def _send(case: Case, ready: list[ChildView], luck: float) -> Decision:
    """To one of those that have the model and a free slot."""
    found = _ready_terms(case, ready)
    limit = min(terms.prefill_s + terms.pressure_s for terms in found) + ALIKE_S
    alike = [
        (child.in_flight, terms)
        for child, terms in zip(ready, found, strict=True)
        if terms.prefill_s + terms.pressure_s <= limit
    ]
    fewest = min(in_flight for in_flight, _ in alike)
    chosen = _among_equals(case, [terms for in_flight, terms in alike if in_flight == fewest], fewest, luck)
    return Decision(Verdict.SEND, chosen.child, {}, tuple(found), chosen.total_s, "has the model and a free slot")


def _among_equals(case: Case, equals: list[Terms], in_flight: int, luck: float) -> Terms:
    """Among idle ones the last choice: it leaves the others undisturbed. Among busy ones the one sent to longest ago.

    The others are more likely to be reading a prompt still.
    """
    if len(equals) == 1:
        return equals[0]
    last = case.memory.last.get(case.key)
    if not in_flight:
        return next((terms for terms in equals if terms.child == last), equals[int(luck * len(equals))])
    sent_s = case.memory.sent_s
    longest_s = min(sent_s.get(terms.child, 0.0) for terms in equals)
    oldest = [terms for terms in equals if sent_s.get(terms.child, 0.0) == longest_s]
    return oldest[int(luck * len(oldest))]


def _ready_terms(case: Case, ready: list[ChildView]) -> list[Terms]:
    """The heart of every decision under light load: kept flat, and what is common to a kind worked out once."""
    memory, request = case.memory, case.request
    busiest = min(child.in_flight for child in ready) + memory.rules.affinity_slack
    fresh_s = case.snapshot.taken_at_s - memory.rules.stale_s
    speeds: dict[str, float] = {}
    found: list[Terms] = []
    for child in ready:
        per_s = speeds.get(child.kind)
        if per_s is None:
            per_s = speeds[child.kind] = memory.knowledge.prefill_per_s(case.model, child.kind)
        per_s *= child.weight
        prefill = whole_s = case.tokens / per_s
        if request.prefix and child.in_flight <= busiest:
            prefill = prefill_s(request, child, per_s, case.tokens, memory)
        pressure = pressure_s(request, child, whole_s, fresh_s)
        found.append(Terms(child.id, Standing.READY, 0.0, 0.0, 0.0, prefill, pressure))
    return found


def _without_slot(case: Case, fit: Sequence[ChildView], standings: Sequence[Standing], *, thorough: bool) -> Decision:
    """Wait for a slot or a load, or begin a load."""
    have = [(child, standing) for child, standing in zip(fit, standings, strict=True) if standing in HAVE]
    sources = [case.source(child, standing) for child, standing in have]
    waits_s = expected_wait_s(case.place, sources)
    if not thorough and _no_load_is_faster(case, fit, waits_s):
        return Decision(Verdict.WAIT, None, {}, (), waits_s, "waits for a free slot")
    could, why = options(case, fit, standings, sources)
    terms = (*_terms_of(case, have, sources), *(option.terms for option in could))
    if best := _worthwhile(case, could, len(have), waits_s):
        reason = "nobody has it" if waits_s == inf else f"a copy more, as waiting takes {waits_s:.1f} s"
        return Decision(Verdict.LOAD, best.terms.child, why, terms, best.wait_s, reason, best.terms.evicts)
    expected_s = min([waits_s, *(option.wait_s for option in could)])
    return Decision(Verdict.WAIT, None, why, terms, expected_s, _why_waiting(sources, could))


def _no_load_is_faster(case: Case, fit: Sequence[ChildView], waits_s: float) -> bool:
    """Whether the wait is shorter than any load: most waits are, and then there is nothing to weigh."""
    kinds = {child.kind: child for child in fit}
    return waits_s <= WORTH_IT * min(case.load_s(child) for child in kinds.values())


def _terms_of(case: Case, have: list[tuple[ChildView, Standing]], sources: list[Source]) -> list[Terms]:
    return [
        case.terms(
            child, standing, wait_s=0.0 if standing is Standing.READY else expected_wait_s(case.place, (source,))
        )
        for (child, standing), source in zip(have, sources, strict=True)
    ]


def _worthwhile(case: Case, could: list[Option], copies: int, waits_s: float) -> Option | None:
    """The load to begin now, if any."""
    most = case.memory.rule(case.model).max_replicas
    if not could or (most is not None and copies >= max(1, most)):
        return None
    best = min(could, key=lambda option: option.cost_s)
    if best.terms.standing is Standing.BLOCKED:
        return None
    if waits_s == inf:
        worth_it = case.line.waited_s >= best.harm_s * _loading_share(case.snapshot)
    else:
        worth_it = best.wait_s * WORTH_IT + COPY_HARM * best.harm_s / max(1, case.line.count) < waits_s
    return best if worth_it else None


def _loading_share(snapshot: Snapshot) -> float:
    """How many of the children are loading something."""
    return sum(child.load is not None for child in snapshot.children) / len(snapshot.children)


def _why_waiting(sources: list[Source], could: list[Option]) -> str:
    if sources:
        return "waits for a free slot"
    return "waits for room" if could else "waits for a child that may load it"
