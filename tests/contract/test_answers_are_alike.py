"""Every route and every error: what a bare real Ollama answers, all others answer, byte for byte."""

from __future__ import annotations

import pytest

from tests.contract.asking import Told, ask_all
from tests.contract.scenarios import ALL_SCENARIOS, SCENARIOS
from tests.contract.targets import NEWER, REFERENCE, TARGETS, Targets

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]  # the first starts five Ollamas


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("name", sorted(TARGETS))
async def test_what_it_answers_is_what_ollama_answers(targets: Targets, name: str, scenario: str) -> None:
    await _hold(targets, name, scenario)


@pytest.mark.parametrize("scenario", ALL_SCENARIOS)
@pytest.mark.parametrize("name", sorted({*NEWER} - {REFERENCE}))
async def test_what_it_answers_is_what_a_newer_ollama_answers(newer_targets: Targets, name: str, scenario: str) -> None:
    await _hold(newer_targets, name, scenario)


async def _hold(targets: Targets, name: str, scenario: str) -> None:
    expected = await targets.expected(scenario)
    target = await targets.target(name)
    answers = await ask_all(target.base_url, target.store, ALL_SCENARIOS[scenario])
    differing = [told for told in zip(expected, answers, strict=True) if told[0] != told[1]]
    assert not differing, "\n".join(_explained(*pair) for pair in differing)


def _explained(expected: Told, answer: Told) -> str:
    """Both answers from where they begin to differ."""
    first, second = (f"{told.status} {told.headers} {told.body}" for told in (expected, answer))
    same = next((place for place, pair in enumerate(zip(first, second, strict=False)) if pair[0] != pair[1]), 0)
    start = max(0, same - 60)
    return f"{expected.ask}\n  Ollama: {first[start : same + 200]!r}\n  here:   {second[start : same + 200]!r}"
