"""Asks the real binding, in a process of its own, over the fake driver."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any, Final

import pytest

PATIENCE_S: Final = 60.0
"""A deadline that no healthy call comes near."""


class Asker:
    """A running tests/support/ask_gpus.py."""

    def __init__(self, env: Mapping[str, str], timeout_s: float) -> None:
        program = [sys.executable, "-m", "tests.support.ask_gpus", str(timeout_s)]
        self.process = subprocess.Popen(
            program, env=os.environ | env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def discover(self) -> Any:
        return self.sample()

    def sample(self, *uuids: str) -> Any:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(" ".join(uuids) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def events(self) -> list[tuple[str, str, int | None]]:
        """What the driver reported with the samples since the last call, as (UUID, kind, Xid)."""
        return [(event["uuid"], event["kind"], event["xid"]) for event in self.sample("events")]

    def end(self) -> int:
        """Its exit code after the end of its input."""
        self.process.communicate(timeout=30)
        return self.process.returncode


Start = Callable[..., Asker]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts an asker in this environment; it is killed at the latest when the test ends."""
    with ExitStack() as stack:

        def run(env: Mapping[str, str], timeout_s: float = PATIENCE_S) -> Asker:
            asker = Asker(env, timeout_s)
            stack.enter_context(asker.process)
            stack.callback(asker.process.kill)
            return asker

        yield run
