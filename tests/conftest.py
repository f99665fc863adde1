from __future__ import annotations

import os
import signal
from typing import Any

import pytest
from hypothesis import settings

from tests.support.daemon import daemons, odd_ollama
from tests.support.hosts import hosts
from tests.support.newer_ollama import newer_ollama_binary
from tests.support.npm import node_client, operator_schemas
from tests.support.orders import orders
from tests.support.parallel import ByFile, longest_first
from tests.support.real_ollama import model_store, ollama_binary
from tests.support.simulated import sim_ollama, sim_store

__all__ = [
    "daemons",
    "hosts",
    "model_store",
    "newer_ollama_binary",
    "node_client",
    "odd_ollama",
    "ollama_binary",
    "operator_schemas",
    "orders",
    "sim_ollama",
    "sim_store",
]

settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("here", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "here")

# A shell starts what it puts into the background with SIGINT ignored, which would go down to all that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):  # a worker of pytest-xdist; one process keeps the order that chance gives
        longest_first(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    config.option.loadscopereorder = False
    return ByFile(config, log)
