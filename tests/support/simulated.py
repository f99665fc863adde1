"""The simulated Ollama as a program, to be given to ollamad as its `ollama.binary`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ollamad.sim.models import Shape, write_model
from ollamad.sim.store import Store

MODEL = "sim-8b"
SHAPE = Shape(size_bytes=5 * 1024**3)


def program_in(folder: Path) -> Path:
    """A program that is `python -m ollamad.sim`; `[ollama.env]` sets its `SIM_*`."""
    program = folder / "sim-ollama"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ollamad.sim "$@"\n')
    program.chmod(0o755)
    return program


@pytest.fixture
def sim_ollama(tmp_path: Path) -> Path:
    """Such a program in this test's folder."""
    return program_in(tmp_path)


@pytest.fixture
def sim_store(tmp_path: Path) -> Path:
    """A store with MODEL, which takes no room."""
    store = Store(tmp_path / "sim-store")
    write_model(store, MODEL, SHAPE)
    return store.folder
