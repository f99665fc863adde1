"""What concerns all children, asked again where nobody answered: as often as the configuration in force has it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ollamad.errors import NoAnswer
from ollamad.ollama.routes import route_of
from ollamad.proxy.as_one import AsOne


async def test_it_is_tried_as_often_as_the_configuration_has_it_now() -> None:
    asked = 0

    async def where(_key: str) -> frozenset[str]:
        nonlocal asked
        asked += 1
        raise NoAnswer("nobody")

    nothing: Any = None
    synchronizer: Any = SimpleNamespace(read_timeout_s=1.0, where=where)
    incoming: Any = SimpleNamespace(path="/api/show")
    attempts_max = 2
    as_one = AsOne(nothing, nothing, synchronizer, lambda: attempts_max)
    for wanted in (2, 5):
        asked, attempts_max = 0, wanted
        with pytest.raises(NoAnswer):
            await as_one.answer(incoming, route_of("POST", "/api/show"), b'{"model": "m"}')
        assert asked == wanted
