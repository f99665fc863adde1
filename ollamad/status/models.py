"""How it stands with models, as the JSON of `GET /status`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ollamad.fleet.models_view import ModelsView
from ollamad.routing.snapshot import Snapshot
from ollamad.status.view import status


def whole_status(snapshot: Snapshot, models: ModelsView) -> dict[str, Any]:
    """The answer of `GET /status`, and of the control face's."""
    return {**status(snapshot), "store": models_status(models, snapshot.taken_at_s)}


def models_status(view: ModelsView, now_s: float) -> dict[str, Any]:
    """Downloads, copies, wanted models and the last round; its monotonic time leaves as an age."""
    found = asdict(view)
    sync = found.pop("sync")
    if sync is not None:
        sync["age_s"] = round(now_s - sync.pop("at_s"), 3)
    return {**found, "sync": sync}
