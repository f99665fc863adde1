"""What of a new configuration is in force before ollamad is started anew."""

from __future__ import annotations

import pytest

from ollamad.config import Config
from ollamad.config.schema import Gpus, Models, Proxy
from ollamad.fleet.difference import NEEDS_NEW_OLLAMAD, changed_keys, in_force

OLD = Config(gpus=Gpus(sample_interval_s=60.0), models=Models(ensure=("a",)))
NEW = Config(gpus=Gpus(sample_interval_s=1.0, exclude=(1,)), models=Models(ensure=("b",)), proxy=Proxy(attempts_max=9))


def test_what_is_read_once_stays_and_all_else_is_taken() -> None:
    now = in_force(OLD, NEW)
    assert set(changed_keys(OLD, now)) == {"gpus.exclude", "proxy.attempts_max"}
    assert set(changed_keys(now, NEW)) == {"gpus.sample_interval_s", "models.ensure"}


@pytest.mark.parametrize("key", sorted(NEEDS_NEW_OLLAMAD))
def test_each_key_that_needs_a_new_ollamad_is_one(key: str) -> None:
    table, _, name = key.partition(".")
    assert hasattr(getattr(Config(), table), name)
