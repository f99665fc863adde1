"""The real binding, in a process of its own, over the fake driver."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from tests.support.asker import Start, start
from tests.support.fake_nvml import (
    GIB,
    Call,
    Code,
    DriverCall,
    FakeGpu,
    MakeDriver,
    fake_nvml_library,
    fake_uuid,
    make_driver,
)

__all__ = ["fake_nvml_library", "make_driver", "start"]

ZERO, ONE = fake_uuid(0), fake_uuid(1)
PINNED: Final = {"pinned_by": "CUDA_VISIBLE_DEVICES"}
HANGS_AFTER_S: Final = 1.0


def test_every_gpu_is_found_with_its_uuid_name_and_memory(start: Start, make_driver: MakeDriver) -> None:
    driver = make_driver(FakeGpu(), FakeGpu(uuid="GPU-abc", name="NVIDIA A100", total_bytes=40 * GIB))
    assert start(driver.env()).discover() == {
        "gpus": [
            {"index": 0, "uuid": ZERO, "name": "NVIDIA H100 80GB HBM3", "memory_total_bytes": 80 * GIB, **PINNED},
            {"index": 1, "uuid": "GPU-abc", "name": "NVIDIA A100", "memory_total_bytes": 40 * GIB, **PINNED},
        ],
        "driver_version": "570.124.06",
        "problems": [],
    }


def test_a_driver_without_a_gpu_is_an_empty_inventory(start: Start, make_driver: MakeDriver) -> None:
    assert start(make_driver().env()).discover() == {"gpus": [], "driver_version": "570.124.06", "problems": []}


def test_samples_follow_the_driver_while_it_runs_in_the_order_that_was_asked(
    start: Start, make_driver: MakeDriver
) -> None:
    driver = make_driver(FakeGpu(reserved_bytes=GIB), FakeGpu(temperature_c=71))
    asker = start(driver.env())
    one, zero = asker.sample(ONE, ZERO)
    assert (one["uuid"], one["temperature_c"], one["error"]) == (ONE, 71, None)
    assert (zero["memory_used_bytes"], zero["utilization_percent"]) == (0, 0)

    driver.set_memory(0, used=30 * GIB)
    driver.set_utilization(0, 97)
    (later,) = asker.sample(ZERO)
    assert later["memory_used_bytes"] == 30 * GIB
    assert later["memory_free_bytes"] == 49 * GIB, "the driver's reserve is neither used nor free"
    assert later["utilization_percent"] == 97
    assert later["taken_at_s"] > zero["taken_at_s"]
    assert asker.end() == 0


@pytest.mark.parametrize("call", [Call.OPEN_BY_INDEX, Call.UUID])
def test_a_gpu_that_cant_be_opened_is_told_and_the_others_go_on(
    start: Start, make_driver: MakeDriver, call: Call
) -> None:
    driver = make_driver(FakeGpu(), FakeGpu(), FakeGpu())
    driver.set_fault(1, call, Code.UNKNOWN)
    found = start(driver.env()).discover()
    assert [gpu["index"] for gpu in found["gpus"]] == [0, 2]
    assert found["problems"] == ["GPU 1 can't be used: Unknown Error"]


def test_discovery_does_without_what_a_driver_does_not_say(start: Start, make_driver: MakeDriver) -> None:
    driver = make_driver(FakeGpu())
    driver.set_fault(0, Call.NAME, Code.UNKNOWN)
    driver.set_fault(0, Call.MEMORY, Code.NOT_SUPPORTED)
    driver.set_driver_fault(DriverCall.DRIVER_VERSION, Code.UNKNOWN)
    assert start(driver.env()).discover() == {
        "gpus": [{"index": 0, "uuid": ZERO, "name": "unnamed GPU", "memory_total_bytes": None, **PINNED}],
        "driver_version": None,
        "problems": [],
    }


@pytest.mark.parametrize("code", [Code.NOT_SUPPORTED, Code.TIMEOUT, Code.UNKNOWN])
@pytest.mark.parametrize(
    ("call", "lacks"),
    [
        (Call.MEMORY, {"memory_used_bytes", "memory_free_bytes"}),
        (Call.UTILIZATION, {"utilization_percent"}),
        (Call.TEMPERATURE, {"temperature_c"}),
        (Call.POWER, {"power_w"}),
        (Call.CLOCK_REASONS, {"throttle_reasons"}),
        (Call.ECC, {"ecc_uncorrected"}),
        (Call.PROCESSES, {"processes"}),
    ],
)
def test_one_reading_that_fails_takes_down_no_other(
    start: Start, make_driver: MakeDriver, call: Call, code: Code, lacks: set[str]
) -> None:
    driver = make_driver(FakeGpu(used_bytes=GIB, utilization_percent=50))
    driver.set_fault(0, call, code)
    (sample,) = start(driver.env()).sample(ZERO)
    assert {key for key, value in sample.items() if value is None} == lacks | {"error", "fault"}


@pytest.mark.parametrize(
    ("code", "error", "fault"),
    [(Code.UNKNOWN, "Unknown Error", "unanswered"), (Code.NOT_SUPPORTED, "Not Supported", None)],
)
def test_a_gpu_none_of_whose_readings_works_says_why_and_whether_that_is_a_fault(
    start: Start, make_driver: MakeDriver, code: Code, error: str, fault: str | None
) -> None:
    driver = make_driver(FakeGpu())
    for call in (Call.MEMORY, Call.UTILIZATION, Call.TEMPERATURE):
        driver.set_fault(0, call, code)
    (sample,) = start(driver.env()).sample(ZERO)
    assert (sample["error"], sample["fault"]) == (error, fault)


def test_a_gpu_that_is_lost_while_it_runs_says_so_and_the_others_go_on(start: Start, make_driver: MakeDriver) -> None:
    driver = make_driver(FakeGpu(), FakeGpu())
    asker = start(driver.env())
    asker.discover()
    driver.set_lost(0)
    lost, well = asker.sample(ZERO, ONE)
    assert (lost["error"], lost["fault"]) == ("GPU is lost", "lost")
    assert {value for key, value in lost.items() if key not in {"uuid", "taken_at_s", "error", "fault"}} == {None}
    assert well["error"] is None

    found = asker.discover()
    assert [gpu["uuid"] for gpu in found["gpus"]] == [ONE]
    assert found["problems"] == ["GPU 0 can't be used: GPU is lost"]
    driver.set_lost(0, lost=False)
    assert [sample["error"] for sample in asker.sample(ZERO, ONE)] == [None, None]


def test_a_gpu_that_is_lost_between_two_readings_gives_none_of_them(start: Start, make_driver: MakeDriver) -> None:
    driver = make_driver(FakeGpu())
    driver.set_fault(0, Call.TEMPERATURE, Code.GPU_IS_LOST)
    (sample,) = start(driver.env()).sample(ZERO)
    assert (sample["memory_used_bytes"], sample["error"]) == (None, "GPU is lost")


def test_a_gpu_whose_lookup_by_uuid_trips_over_a_lost_neighbour_is_found_by_its_index(
    start: Start, make_driver: MakeDriver
) -> None:
    driver = make_driver(FakeGpu(), FakeGpu(used_bytes=GIB))
    asker = start(driver.env())
    asker.discover()
    driver.set_lost(0)
    driver.set_fault(1, Call.OPEN_BY_UUID, Code.GPU_IS_LOST)
    (sample,) = asker.sample(ONE)
    assert (sample["memory_used_bytes"], sample["error"]) == (GIB, None)


def test_another_gpu_at_the_index_of_one_that_is_gone_is_not_taken_for_it(
    start: Start, make_driver: MakeDriver
) -> None:
    driver = make_driver(FakeGpu())
    asker = start(driver.env())
    asker.discover()
    driver.replace(0, FakeGpu(uuid="GPU-another"))
    (sample,) = asker.sample(ZERO)
    assert sample["error"] == "Not Found"


def test_a_gpu_that_came_later_is_found_by_the_next_discovery(start: Start, make_driver: MakeDriver) -> None:
    driver = make_driver(FakeGpu())
    asker = start(driver.env())
    assert len(asker.discover()["gpus"]) == 1
    driver.add(FakeGpu())
    assert [gpu["uuid"] for gpu in asker.discover()["gpus"]] == [ZERO, ONE]


def test_a_uuid_that_the_driver_does_not_know_is_that_samples_error(start: Start, make_driver: MakeDriver) -> None:
    strange, well = start(make_driver(FakeGpu()).env()).sample("GPU-strange", ZERO)
    assert (strange["error"], well["error"]) == ("Not Found", None)


def test_an_old_driver_gives_its_memory_in_the_old_way(start: Start, make_driver: MakeDriver) -> None:
    driver = make_driver(FakeGpu(used_bytes=10 * GIB, reserved_bytes=GIB, old_driver=True))
    asker = start(driver.env())
    assert asker.discover()["gpus"][0]["memory_total_bytes"] == 80 * GIB
    (sample,) = asker.sample(ZERO)
    assert (sample["memory_used_bytes"], sample["memory_free_bytes"]) == (11 * GIB, 69 * GIB)


def test_without_a_library_that_can_be_loaded_there_is_no_driver(start: Start, tmp_path: Path) -> None:
    (tmp_path / "libnvidia-ml.so.1").touch()  # hides a real one, where the machine has it
    asker = start({"LD_LIBRARY_PATH": str(tmp_path)})
    missing = {"error": "no NVIDIA driver on this machine (libnvidia-ml.so.1 was not found)"}
    assert asker.discover() == missing
    assert asker.sample(ZERO) == missing
    assert asker.end() == 0


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (Code.DRIVER_NOT_LOADED, "its kernel module is not loaded"),
        (Code.LIB_RM_VERSION_MISMATCH, "reload its kernel modules, or reboot"),
        (Code.NO_PERMISSION, "this user may not open the NVIDIA devices"),
        (Code.UNKNOWN, "the NVIDIA driver can't be started: Unknown Error"),
    ],
)
def test_a_driver_that_does_not_start_says_why_and_is_found_once_it_does(
    start: Start, make_driver: MakeDriver, code: Code, says: str
) -> None:
    driver = make_driver(FakeGpu())
    driver.set_driver_fault(DriverCall.INIT, code)
    asker = start(driver.env())
    assert says in asker.discover()["error"]
    driver.clear()
    assert len(asker.discover()["gpus"]) == 1


def test_a_driver_that_cant_count_is_an_error(start: Start, make_driver: MakeDriver) -> None:
    driver = make_driver(FakeGpu())
    driver.set_driver_fault(DriverCall.COUNT, Code.UNKNOWN)
    assert start(driver.env()).discover() == {"error": "the NVIDIA driver can't count its GPUs: Unknown Error"}


def test_a_driver_that_hangs_is_given_up_at_the_deadline_and_asked_again_once_it_returns(
    start: Start, make_driver: MakeDriver
) -> None:
    driver = make_driver(FakeGpu(), FakeGpu())
    asker = start(driver.env(), timeout_s=HANGS_AFTER_S)
    asker.discover()
    driver.hang(0, Call.UTILIZATION)
    for _ in range(3):
        answer = asker.sample(ONE, ZERO)
        assert "has not answered for 1 s" in answer["error"]
        assert answer["uuid"] == ZERO, "the one that it hangs on"

    driver.clear()
    while isinstance(answer := asker.sample(ZERO, ONE), dict):
        assert "has not answered" in answer["error"]
    assert [sample["error"] for sample in answer] == [None, None]


def test_a_process_can_end_while_the_driver_hangs(start: Start, make_driver: MakeDriver) -> None:
    driver = make_driver(FakeGpu())
    driver.set_driver_fault(DriverCall.INIT, Code.HANG)
    asker = start(driver.env(), timeout_s=0.01)
    assert "has not answered" in asker.discover()["error"]
    assert asker.end() == 0
