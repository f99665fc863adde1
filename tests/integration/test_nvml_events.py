"""Who is on a GPU, how it fares, what the driver reports, GPUs that come and go: the real binding, a fake driver."""

from __future__ import annotations

import os
from typing import Any

import pytest

from tests.support.asker import Start, start
from tests.support.fake_nvml import (
    GIB,
    Call,
    Code,
    DriverCall,
    EventType,
    FakeGpu,
    FakeProcess,
    MakeDriver,
    Slowdown,
    fake_nvml_library,
    fake_uuid,
    make_driver,
)

__all__ = ["fake_nvml_library", "make_driver", "start"]

ZERO, ONE, TWO = (fake_uuid(index) for index in range(3))
HERE = os.getpid()
ANOTHER = HERE + 1
NOT_HERE = 4_000_000_000
"""No process has so high a number (the kernel's own limit is 2**22)."""


def on(sample: dict[str, Any]) -> list[tuple[int, int | None, bool]]:
    return [(one["pid"], one["used_bytes"], one["here"]) for one in sample["processes"]]


@pytest.mark.parametrize("old_driver", [False, True])
def test_those_who_compute_and_those_who_draw_are_one_list(
    start: Start, make_driver: MakeDriver, *, old_driver: bool
) -> None:
    driver = make_driver(FakeGpu(old_driver=old_driver), FakeGpu())
    computing = [FakeProcess(HERE, 2 * GIB), FakeProcess(NOT_HERE, None)]
    driver.set_processes(0, computing, graphics=[FakeProcess(ANOTHER, GIB), FakeProcess(HERE, GIB)])
    used, empty = start(driver.env()).sample(ZERO, ONE)
    listed = [(ANOTHER, GIB), (HERE, 2 * GIB), (NOT_HERE, None)]
    assert [(pid, size) for pid, size, _ in on(used)] == sorted(listed)
    assert on(empty) == []


def test_a_process_that_this_machine_does_not_have_is_marked_so(start: Start, make_driver: MakeDriver) -> None:
    driver = make_driver(FakeGpu())
    driver.set_processes(0, [FakeProcess(HERE, 1), FakeProcess(NOT_HERE, 1)])
    (sample,) = start(driver.env()).sample(ZERO)
    assert on(sample) == [(HERE, 1, True), (NOT_HERE, 1, False)]


@pytest.mark.parametrize(
    ("call", "code", "listed"),
    [
        (Call.GRAPHICS_PROCESSES, Code.NOT_SUPPORTED, [(HERE, 1, True)]),
        (Call.GRAPHICS_PROCESSES, Code.NO_PERMISSION, None),
        (Call.GRAPHICS_PROCESSES, Code.UNKNOWN, None),
        (Call.PROCESSES, Code.NOT_SUPPORTED, None),
    ],
)
def test_half_a_list_is_no_list_unless_the_other_half_can_not_be(
    start: Start, make_driver: MakeDriver, call: Call, code: Code, listed: list[tuple[int, int, bool]] | None
) -> None:
    driver = make_driver(FakeGpu())
    driver.set_processes(0, [FakeProcess(HERE, 1)])
    driver.set_fault(0, call, code)
    (sample,) = start(driver.env()).sample(ZERO)
    assert (None if sample["processes"] is None else on(sample)) == listed


@pytest.mark.parametrize("old_driver", [False, True])
@pytest.mark.parametrize(
    ("slowdown", "reasons"),
    [
        (Slowdown.IDLE, []),
        (Slowdown.POWER_CAP, ["power cap"]),
        (Slowdown.HEAT | Slowdown.HEAT_HARDWARE | Slowdown.IDLE, ["heat", "heat (hardware)"]),
    ],
)
def test_power_and_what_holds_the_clocks_down(
    start: Start, make_driver: MakeDriver, slowdown: Slowdown, reasons: list[str], *, old_driver: bool
) -> None:
    driver = make_driver(FakeGpu(old_driver=old_driver))
    driver.set_power(0, 312.5, slowdown)
    (sample,) = start(driver.env()).sample(ZERO)
    assert (sample["power_w"], sample["throttle_reasons"]) == (312.5, reasons)


def test_uncorrectable_memory_errors_are_counted(start: Start, make_driver: MakeDriver) -> None:
    driver = make_driver(FakeGpu())
    driver.set_ecc_uncorrected(0, 3)
    (sample,) = start(driver.env()).sample(ZERO)
    assert sample["ecc_uncorrected"] == 3


def test_an_xid_is_reported_with_the_next_sample_once_and_of_its_own_gpu(start: Start, make_driver: MakeDriver) -> None:
    driver = make_driver(FakeGpu(), FakeGpu())
    asker = start(driver.env())
    asker.discover()
    driver.xid(1, 79)
    driver.report(0, EventType.ECC_CORRECTED)
    driver.report(0, EventType.ECC_UNCORRECTED)
    asker.sample(ZERO)
    assert asker.events() == [(ONE, "xid", 79), (ZERO, "ecc", None)]
    asker.sample(ZERO)
    assert asker.events() == []


def test_an_xid_of_a_gpu_that_is_lost_by_it_is_reported_all_the_same(start: Start, make_driver: MakeDriver) -> None:
    driver = make_driver(FakeGpu())
    asker = start(driver.env())
    asker.discover()
    driver.set_lost(0)
    driver.xid(0, 79)
    (sample,) = asker.sample(ZERO)
    assert sample["fault"] == "lost"
    assert asker.events() == [(ZERO, "xid", 79)]


def test_an_xid_that_comes_before_a_rediscovery_is_not_lost_and_later_ones_are_heard(
    start: Start, make_driver: MakeDriver
) -> None:
    driver = make_driver(FakeGpu())
    asker = start(driver.env())
    asker.discover()
    driver.xid(0, 48)
    for _ in range(20):  # the fake has room for eight sets: each must be freed
        asker.discover()
    driver.xid(0, 63)
    asker.sample(ZERO)
    assert asker.events() == [(ZERO, "xid", 48), (ZERO, "xid", 63)]


def test_a_storm_of_events_is_taken_in_rounds(start: Start, make_driver: MakeDriver) -> None:
    driver = make_driver(FakeGpu())
    asker = start(driver.env())
    asker.discover()
    for _ in range(100):
        driver.xid(0, 13)
    asker.sample(ZERO)
    first = len(asker.events())
    asker.sample(ZERO)
    assert (first, len(asker.events())) == (64, 36)


def test_where_a_gpu_refuses_to_report_its_readings_go_on_and_the_other_reports(
    start: Start, make_driver: MakeDriver
) -> None:
    driver = make_driver(FakeGpu(), FakeGpu())
    driver.set_fault(0, Call.REGISTER_EVENTS, Code.NOT_SUPPORTED)
    asker = start(driver.env())
    assert len(asker.discover()["gpus"]) == 2
    driver.xid(0, 79)
    driver.xid(1, 79)
    assert [sample["error"] for sample in asker.sample(ZERO, ONE)] == [None, None]
    assert asker.events() == [(ONE, "xid", 79)]


@pytest.mark.parametrize("call", [DriverCall.EVENT_SET, DriverCall.EVENT_WAIT])
def test_where_the_driver_refuses_events_there_are_none_and_readings_go_on(
    start: Start, make_driver: MakeDriver, call: DriverCall
) -> None:
    driver = make_driver(FakeGpu())
    driver.set_driver_fault(call, Code.UNKNOWN)
    asker = start(driver.env())
    asker.discover()
    driver.xid(0, 79)
    (sample,) = asker.sample(ZERO)
    assert sample["error"] is None
    assert asker.events() == []


def test_waiting_for_events_that_hangs_blames_no_gpu(start: Start, make_driver: MakeDriver) -> None:
    driver = make_driver(FakeGpu())
    asker = start(driver.env(), timeout_s=1.0)
    asker.discover()
    driver.set_driver_fault(DriverCall.EVENT_WAIT, Code.HANG)
    answer = asker.sample(ZERO)
    assert "has not answered" in answer["error"]
    assert answer["uuid"] is None


def test_a_rediscovery_that_hangs_on_a_gpu_names_it(start: Start, make_driver: MakeDriver) -> None:
    driver = make_driver(FakeGpu(), FakeGpu())
    asker = start(driver.env(), timeout_s=1.0)
    asker.discover()
    driver.hang(1, Call.OPEN_BY_INDEX)
    assert asker.discover()["uuid"] == ONE


def test_a_gpu_that_vanishes_reads_as_lost_and_is_not_there_at_the_next_discovery_and_comes_back(
    start: Start, make_driver: MakeDriver
) -> None:
    driver = make_driver(FakeGpu(used_bytes=1), FakeGpu(used_bytes=2), FakeGpu(used_bytes=3))
    asker = start(driver.env())
    asker.discover()
    driver.vanish(1)
    assert [sample["fault"] for sample in asker.sample(ZERO, ONE, TWO)] == [None, "lost", None]
    found = asker.discover()
    assert [(gpu["index"], gpu["uuid"]) for gpu in found["gpus"]] == [(0, ZERO), (1, TWO)]
    assert found["problems"] == []
    zero, one, two = asker.sample(ZERO, ONE, TWO)
    assert (zero["memory_used_bytes"], one["error"], two["memory_used_bytes"]) == (1, "Not Found", 3)
    driver.vanish(1, gone=False)
    assert [gpu["uuid"] for gpu in asker.discover()["gpus"]] == [ZERO, ONE, TWO]
    assert [sample["memory_used_bytes"] for sample in asker.sample(ZERO, ONE, TWO)] == [1, 2, 3]
