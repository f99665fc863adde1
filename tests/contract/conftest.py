from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.contract.targets import BASE_PORT, NEWER, NEWER_BASE_PORT, TARGETS, Target, Targets

NEWER_PREFIX = "newer-"


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def targets(
    ollama_binary: Path, model_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Targets]:
    """All targets, started once: tests come in any order."""
    running = Targets(ollama_binary, model_store, tmp_path_factory.mktemp("contract"), BASE_PORT)
    try:
        yield running
    finally:
        await running.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def newer_targets(
    newer_ollama_binary: Path, model_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Targets]:
    """The same of a newer Ollama, over copies of the store that the older one made."""
    running = Targets(newer_ollama_binary, model_store, tmp_path_factory.mktemp("newer"), NEWER_BASE_PORT)
    try:
        yield running
    finally:
        await running.close()


@pytest_asyncio.fixture(loop_scope="session", params=[*sorted(TARGETS), *(NEWER_PREFIX + name for name in NEWER)])
async def target(request: pytest.FixtureRequest, targets: Targets, newer_targets: Targets) -> Target:
    """One of them, of either version."""
    name: str = request.param
    if name.startswith(NEWER_PREFIX):
        return await newer_targets.target(name.removeprefix(NEWER_PREFIX))
    return await targets.target(name)
