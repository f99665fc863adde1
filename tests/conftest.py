from __future__ import annotations

import os

from hypothesis import settings

from tests.support.daemon import daemons, odd_ollama
from tests.support.hosts import hosts
from tests.support.newer_ollama import newer_ollama_binary
from tests.support.npm import node_client, operator_schemas
from tests.support.orders import orders
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
