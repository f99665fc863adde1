"""How the commands begin."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

INTERRUPTED_AT = """
import os, signal, sys
{before}
class Interrupts:
    def find_spec(self, name, *_):
        if name == {name!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupts())
sys.argv[1:] = ["--version"]
from ollamad.cli import entry
entry.{command}()
"""


def interrupted(command: str, name: str, before: str = "") -> subprocess.CompletedProcess[str]:
    """One command, interrupted while it imports this module."""
    code = INTERRUPTED_AT.format(command=command, name=name, before=before)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("command", "name"),
    [("ollamad", "aiohttp"), ("ollamad", "ollamad.daemon"), ("ollamactl", "ollamad.cli.ctl.parser")],
)
def test_an_interrupt_while_it_loads_ends_it_without_a_word(command: str, name: str) -> None:
    outcome = interrupted(command, name)
    assert (outcome.returncode, outcome.stdout, outcome.stderr) == (-signal.SIGINT, "", "")


def test_an_interrupt_that_is_ignored_stays_so() -> None:
    outcome = interrupted("ollamad", "aiohttp", "signal.signal(signal.SIGINT, signal.SIG_IGN)")
    assert (outcome.returncode, outcome.stderr) == (0, "")
    assert outcome.stdout.startswith("ollamad ")


def test_a_second_interrupt_while_the_first_is_answered_is_no_traceback() -> None:
    code = """
import sys
from ollamad.cli import entry
from ollamad.cli.ctl import main as ctl

def twice(options):
    class Interrupts:
        def write(self, text):
            raise KeyboardInterrupt
        def flush(self):
            pass
    sys.stderr = Interrupts()
    raise KeyboardInterrupt

ctl.context_of = twice
sys.argv[1:] = ["status"]
sys.exit(entry.ollamactl())
"""
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (outcome.returncode, outcome.stdout, outcome.stderr) == (130, "", "")
