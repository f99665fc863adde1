"""What an operator is told of a decision."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

from ollamad.config import Config
from ollamad.fleet.operations import Operations
from ollamad.routing.decide import decide
from ollamad.routing.decision import Decision
from ollamad.routing.memory import ModelRule
from tests.support.scene import RUN, child, fleet, memory


def operations(decision: Decision) -> Operations:
    known: Any = SimpleNamespace(explain=lambda _model: decision)
    return Operations(known, Config, lambda _config: None)


def test_a_model_for_which_there_will_be_no_room_is_expected_at_no_time() -> None:
    pinned = memory(rules={"other:latest": ModelRule(pin=True)})
    decision = decide(RUN, fleet(child("gpu0", "other:latest", models_max=1)), pinned, 0.0, thorough=True)
    told = operations(decision).explain("m")
    assert (told["verdict"], told["expected_s"]) == ("wait", None)
    json.dumps(told, allow_nan=False)


def test_a_model_that_is_there_is_expected_soon() -> None:
    decision = decide(RUN, fleet(child("gpu0", "m:latest")), memory(), 0.0, thorough=True)
    assert operations(decision).explain("m")["expected_s"] == 0.0
