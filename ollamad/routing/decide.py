"""The decision: what to do with a request now, and why not something else.

Children pass filters (the reason to reject, or None); what is left is weighed by the policy. Nothing here waits, and
nothing here changes what it reads: whoever carries the decision out does, in the same step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ollamad.routing.cost import cheapest, explained
from ollamad.routing.decision import Decision, Standing, Terms, Verdict
from ollamad.routing.filters import candidates
from ollamad.routing.memory import Memory, Policy
from ollamad.routing.policies import PICKS, least_inflight
from ollamad.routing.request import Key, Need, Priority, Request, Work
from ollamad.routing.snapshot import ChildView, Snapshot

__all__ = ["Decision", "Key", "Need", "Priority", "Request", "Standing", "Terms", "Verdict", "Work", "decide"]


def decide(
    request: Request, snapshot: Snapshot, memory: Memory, luck: float, *, place: int = 0, thorough: bool = False
) -> Decision:
    """Decide on a request at the instant of the snapshot.

    `luck`, in [0, 1), breaks ties. `place` is how many wait for the same before it. `thorough` computes the terms of
    every child, for an explanation, also where they can't change the outcome.
    """
    fit, rejected, resting = candidates(request, snapshot.children, memory, snapshot.taken_at_s)
    if not fit:
        return Decision(Verdict.REFUSE, None, rejected, reason="no child can take it")
    if request.need is Need.STORE:
        return Decision(Verdict.SEND, fit[0].id, rejected, reason="the first child changes the store")
    key = request.key
    if request.need is Need.ANY or key is None or resting or memory.is_refused(key, snapshot.taken_at_s):
        return _least_busy(request, fit, memory, luck, rejected)
    policy = memory.rules.policy
    if policy is not Policy.COST:
        return Decision(Verdict.SEND, PICKS[policy](request, fit, memory, luck).id, rejected, reason=policy.value)
    weigh = explained if thorough else cheapest
    decision = weigh(request, key, fit, snapshot, memory, luck, place)
    return replace(decision, rejected={**rejected, **decision.rejected}) if rejected else decision


def _least_busy(
    request: Request, fit: Sequence[ChildView], memory: Memory, luck: float, rejected: dict[str, str]
) -> Decision:
    child = least_inflight(request, fit, memory, luck)
    return Decision(Verdict.SEND, child.id, rejected, reason="the fewest requests in flight")
