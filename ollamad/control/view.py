"""Parts of the status document that are asked for alone, and the requests behind its counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ollamad.routing.snapshot import Snapshot, StreamView


def gpus(status: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each GPU, with the child that has it; null where none has."""
    owned = [{"child": child["id"], **gpu} for child in status["children"] for gpu in child["gpus"]]
    return [*owned, *({"child": None, **gpu} for gpu in status["gpus_without_child"])]


def requests(snapshot: Snapshot) -> dict[str, Any]:
    """Who waits, and what is in flight where, oldest first."""
    found = [_request(child.id, stream, snapshot.taken_at_s) for child in snapshot.children for stream in child.streams]
    return {"waiting": snapshot.waiting, "requests": sorted(found, key=lambda request: -request["age_s"])}


def _request(child: str, stream: StreamView, now_s: float) -> dict[str, Any]:
    heard_age_s = None if stream.heard_s is None else round(now_s - stream.heard_s, 3)
    return {
        "child": child,
        "model": stream.model,
        "age_s": round(now_s - stream.since_s, 3),
        "heard_age_s": heard_age_s,
        "held": stream.held,
    }
