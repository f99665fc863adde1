"""A configuration that is taken into use, as far as the children hear of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ollamad.config import Config
from ollamad.config.schema import Routing
from ollamad.fleet.child import Child
from ollamad.fleet.devices import Devices
from ollamad.fleet.fleet import Fleet
from ollamad.fleet.plan import ChildPlan
from ollamad.fleet.telemetry import Telemetry
from ollamad.ollama.program import Program

CONFIG = Config(routing=Routing(state_dir=""))
PLANS = (ChildPlan("cpu0"), ChildPlan("cpu1"))


async def test_a_new_configuration_has_every_child_looked_at_now(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    monkeypatch.setattr(Child, "look_again", lambda child: looked.append(child.plan.id))
    nothing: Any = None
    fleet = Fleet(
        CONFIG,
        PLANS,
        program=Program(Path("/bin/true")),
        instance="this",
        session=nothing,
        devices=Devices(Telemetry(nothing, (), 1.0), 1.0),
    )
    fleet.configure(CONFIG, PLANS)
    assert looked == ["cpu0", "cpu1"], "who waits by the old interval would be taken for one that stands still"
