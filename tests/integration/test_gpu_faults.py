"""Faults of GPUs as the daemon's telemetry sees them: the real binding over the fake driver, one fault a test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any, Final

import pytest

from tests.support.fake_nvml import (
    GIB,
    Call,
    Code,
    DriverCall,
    FakeDriver,
    FakeGpu,
    FakeProcess,
    MakeDriver,
    fake_nvml_library,
    fake_uuid,
    make_driver,
)

__all__ = ["fake_nvml_library", "make_driver"]

ZERO, ONE, TWO = (fake_uuid(index) for index in range(3))
PATIENCE_S: Final = 30.0
Known = dict[str, Any]


class Watcher:
    """A running tests/support/watch_gpus.py."""

    def __init__(self, env: Mapping[str, str], asked: Mapping[str, Any]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.watch_gpus", json.dumps(asked)],
            env=os.environ | env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def known(self) -> Known:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        found: Known = json.loads(self.process.stdout.readline())
        return found

    def until(self, condition: Callable[[Known], object]) -> Known:
        deadline_s = time.monotonic() + PATIENCE_S
        while not condition(found := self.known()):
            assert time.monotonic() < deadline_s, json.dumps(found, indent=1)
            time.sleep(0.01)
        return found

    def until_sampled_anew(self, uuid: str) -> Known:
        """Until this GPU has a newer sample than now."""
        before = self.until(lambda found: found["gpus"][uuid]["sampled_at_s"])["gpus"][uuid]["sampled_at_s"]
        return self.until(lambda found: found["gpus"][uuid]["sampled_at_s"] > before)


Watch = Callable[..., Watcher]


@pytest.fixture
def watch() -> Iterator[Watch]:
    """Watches this driver's first two GPUs as having a child; a quarantine ends after 0.2 s of good readings."""
    with ExitStack() as stack:

        def run(driver: FakeDriver, **policy: float) -> Watcher:
            asked = {
                "timeout_s": 1.0,
                "pinned": [ZERO, ONE],
                "interval_s": 0.02,
                "rediscover_interval_s": 0.1,
                "policy": {"unanswered_max_s": 1.0, "recover_after_s": 0.2, "recover_max_s": 0.2} | policy,
            }
            watcher = Watcher(driver.env(), asked)
            stack.enter_context(watcher.process)
            stack.callback(watcher.process.kill)
            return watcher

        yield run


def quarantined(found: Known, uuid: str) -> str | None:
    reason: str | None = found["gpus"][uuid]["quarantined"]
    return reason


def lose(driver: FakeDriver) -> None:
    driver.set_lost(0)


def vanish(driver: FakeDriver) -> None:
    driver.vanish(0)


def fail(driver: FakeDriver) -> None:
    driver.set_fault(0, Call.OPEN_BY_UUID, Code.UNKNOWN)
    driver.set_fault(0, Call.OPEN_BY_INDEX, Code.UNKNOWN)


def time_out(driver: FakeDriver) -> None:
    for call in (Call.MEMORY, Call.UTILIZATION, Call.TEMPERATURE):
        driver.set_fault(0, call, Code.TIMEOUT)


def hang(driver: FakeDriver) -> None:
    driver.hang(0, Call.MEMORY)


def heal(driver: FakeDriver) -> None:
    driver.clear()
    driver.set_lost(0, lost=False)
    driver.vanish(0, gone=False)


@pytest.mark.parametrize("fault", [lose, vanish, fail, time_out, hang])
def test_a_gpu_at_fault_is_quarantined_the_other_is_not_and_it_comes_back_by_itself(
    watch: Watch, make_driver: MakeDriver, fault: Callable[[FakeDriver], None]
) -> None:
    driver = make_driver(FakeGpu(), FakeGpu())
    watcher = watch(driver)
    watcher.until_sampled_anew(ZERO)
    fault(driver)
    watcher.until(lambda found: quarantined(found, ZERO))
    heal(driver)
    found = watcher.until(lambda found: quarantined(found, ZERO) is None)
    assert [ZERO, "quarantined"] in found["told"]
    assert found["told"][-1] == [ZERO, "healthy"]
    assert [ONE, "quarantined"] not in found["told"]
    watcher.until_sampled_anew(ZERO)
    watcher.until_sampled_anew(ONE)


@pytest.mark.parametrize("fault", [lose, vanish, fail, time_out])
def test_while_one_gpu_is_at_fault_the_others_samples_go_on(
    watch: Watch, make_driver: MakeDriver, fault: Callable[[FakeDriver], None]
) -> None:
    driver = make_driver(FakeGpu(), FakeGpu())
    watcher = watch(driver)
    watcher.until_sampled_anew(ZERO)
    fault(driver)
    watcher.until(lambda found: quarantined(found, ZERO))
    driver.set_memory(1, used=3 * GIB)
    watcher.until(lambda found: found["gpus"][ONE]["memory_used_bytes"] == 3 * GIB)


def test_an_xid_of_the_gpu_quarantines_it_and_a_programs_own_does_not(watch: Watch, make_driver: MakeDriver) -> None:
    driver = make_driver(FakeGpu(), FakeGpu())
    watcher = watch(driver, recover_after_s=3600.0, recover_max_s=3600.0)
    watcher.until_sampled_anew(ZERO)
    driver.xid(1, 13)
    driver.xid(0, 79)
    found = watcher.until(lambda found: quarantined(found, ZERO))
    assert quarantined(found, ZERO) == "Xid 79: it has fallen off the bus"
    assert quarantined(found, ONE) is None
    assert [event for event in found["events"] if event[1] == "xid"] == [[ONE, "xid"], [ZERO, "xid"]]


def test_new_uncorrectable_memory_errors_quarantine_where_old_ones_did_not(
    watch: Watch, make_driver: MakeDriver
) -> None:
    driver = make_driver(FakeGpu(), FakeGpu())
    driver.set_ecc_uncorrected(0, 5)
    watcher = watch(driver, recover_after_s=3600.0, recover_max_s=3600.0)
    assert watcher.until_sampled_anew(ZERO)["told"] == []
    driver.set_ecc_uncorrected(0, 6)
    found = watcher.until(lambda found: quarantined(found, ZERO))
    assert quarantined(found, ZERO) == "1 new uncorrectable memory errors, 6 in all"


def test_a_reading_that_is_not_supported_is_no_fault(watch: Watch, make_driver: MakeDriver) -> None:
    driver = make_driver(FakeGpu(), FakeGpu())
    for call in (Call.MEMORY, Call.UTILIZATION, Call.TEMPERATURE, Call.POWER, Call.ECC, Call.CLOCK_REASONS):
        driver.set_fault(0, call, Code.NOT_SUPPORTED)
    driver.set_processes(0, [FakeProcess(1, None)])
    watcher = watch(driver)
    found = watcher.until_sampled_anew(ZERO)
    assert (found["gpus"][ZERO]["error"], found["told"]) == ("Not Supported", [])
    assert found["listed"][ZERO] == [1], "its list of processes can be read all the same"


def test_a_driver_that_hangs_in_no_gpu_in_particular_quarantines_none(watch: Watch, make_driver: MakeDriver) -> None:
    driver = make_driver(FakeGpu(), FakeGpu())
    watcher = watch(driver)
    watcher.until_sampled_anew(ZERO)
    driver.set_driver_fault(DriverCall.EVENT_WAIT, Code.HANG)
    found = watcher.until(lambda found: len(found["told"]) > 1)
    assert sorted(found["told"]) == sorted([[ZERO, "suspect"], [ONE, "suspect"]])
    driver.clear()
    watcher.until(lambda found: sorted(found["told"][2:]) == sorted([[ZERO, "healthy"], [ONE, "healthy"]]))


def test_a_gpu_that_appears_later_is_watched_with_its_processes(watch: Watch, make_driver: MakeDriver) -> None:
    driver = make_driver(FakeGpu(), FakeGpu())
    watcher = watch(driver)
    watcher.until_sampled_anew(ZERO)
    driver.add(FakeGpu())
    driver.set_processes(2, [FakeProcess(1, GIB)])
    found = watcher.until(lambda found: found["listed"].get(TWO))
    assert found["listed"] == {ZERO: [], ONE: [], TWO: [1]}
