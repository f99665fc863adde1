from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.contract.targets import TARGETS, Target, Targets


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def targets(
    ollama_binary: Path, model_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Targets]:
    """All targets, started once: tests come in any order."""
    running = Targets(ollama_binary, model_store, tmp_path_factory.mktemp("contract"))
    try:
        yield running
    finally:
        await running.close()


@pytest_asyncio.fixture(loop_scope="session", params=sorted(TARGETS))
async def target(request: pytest.FixtureRequest, targets: Targets) -> Target:
    """One of them."""
    return await targets.target(request.param)
