"""Signals as something to wait for."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from ollamad.signals import Signals

NUMBER = signal.SIGUSR1


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    before = signal.getsignal(NUMBER)
    yield
    signal.signal(NUMBER, before)


async def test_each_is_heard_once_and_then_it_is_as_it_was() -> None:
    with Signals(NUMBER) as signals:
        os.kill(os.getpid(), NUMBER)
        assert await signals.heard(10)
        assert not await signals.heard(0)
    assert signal.getsignal(NUMBER) is signal.SIG_DFL


async def test_one_too_many_does_not_kill_a_process_that_has_nothing_left_to_do_but_to_end() -> None:
    with Signals(NUMBER, deaf_after=True):
        pass
    os.kill(os.getpid(), NUMBER)  # whose default would be death
    assert signal.getsignal(NUMBER) is signal.SIG_IGN
