"""Simulated GPUs: what a driver would say of processes that are really there."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ollamad.demo.driver import STALE_S, DriverFolder
from ollamad.demo.provider import GIB, VRAM_BYTES, SimulatedGpus
from ollamad.supervision.gpu_health import GpuEventKind
from ollamad.supervision.pinning import GpuProcess

PATIENCE_S = 30.0


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "infinity"]) as running:
        yield running
        running.kill()


@pytest.fixture
def folder(tmp_path: Path) -> DriverFolder:
    return DriverFolder(tmp_path)


def report(folder: DriverFolder, uuid: str, server: int, runner: int, *, streams: int = 0) -> Path:
    """As a simulated server tells it."""
    told = {"pid": server, "child": "gpu0", "port": 1, "devices": [uuid], "runners": [[runner, 5 * GIB]]}
    file = folder.path / f"{server}.json"
    file.write_text(json.dumps({**told, "streams": streams, "loading": False}))
    return file


def test_a_runner_has_its_memory_until_it_is_dead_whatever_became_of_its_server(
    folder: DriverFolder, process: subprocess.Popen[bytes]
) -> None:
    gpus = SimulatedGpus(folder, 2)
    zero, one = (gpu.uuid for gpu in gpus.gpus)
    with subprocess.Popen(["true"]) as server:
        server.wait()
    report(folder, zero, server.pid, process.pid, streams=3)
    first, second = gpus.sample((zero, one))
    assert first.processes == (GpuProcess(process.pid, 5 * GIB),)
    assert (first.memory_used_bytes, first.utilization_percent) == (5 * GIB, 0)
    assert (second.memory_used_bytes, second.processes) == (0, ())
    process.kill()
    process.wait()
    (gone,) = gpus.sample((zero,))
    assert (gone.memory_used_bytes, gone.processes) == (0, ())
    gpus.sample((zero,))
    assert not list(folder.path.glob("*.json")), "nobody is left who could have it"


def test_streams_show_as_utilization_while_their_server_tells_of_them(
    folder: DriverFolder, process: subprocess.Popen[bytes]
) -> None:
    gpus = SimulatedGpus(folder, 1)
    (uuid,) = (gpu.uuid for gpu in gpus.gpus)
    file = report(folder, uuid, os.getpid(), process.pid, streams=2)
    assert gpus.sample((uuid,))[0].utilization_percent == 67
    told_s = file.stat().st_mtime
    os.utime(file, (told_s - 2 * STALE_S,) * 2)
    assert gpus.sample((uuid,))[0].utilization_percent == 0


def test_a_lost_gpu_says_so_with_an_xid_and_is_found_again(folder: DriverFolder) -> None:
    gpus = SimulatedGpus(folder, 2)
    zero, one = (gpu.uuid for gpu in gpus.gpus)
    gpus.lose(zero)
    assert [(event.uuid, event.kind, event.xid) for event in gpus.events()] == [(zero, GpuEventKind.XID, 79)]
    assert [sample.fault for sample in gpus.sample((zero, one))] == [GpuEventKind.LOST, None]
    inventory = gpus.discover()
    assert [gpu.uuid for gpu in inventory.gpus] == [one]
    assert inventory.problems == ("GPU 0 can't be used: GPU is lost",)
    gpus.lose(zero, lost=False)
    assert len(gpus.discover().gpus) == 2
    assert (gpus.sample((zero,))[0].fault, gpus.events()) == (None, ())


def test_foreign_memory_belongs_to_a_process_and_the_servers_are_told(folder: DriverFolder) -> None:
    gpus = SimulatedGpus(folder, 1)
    (uuid,) = (gpu.uuid for gpu in gpus.gpus)
    gpus.fill(uuid, 20 * GIB)
    (sample,) = gpus.sample((uuid,))
    assert sample.processes == (GpuProcess(os.getpid(), 20 * GIB),)
    assert (folder.path / f"{uuid}.foreign").read_text() == str(20 * GIB)
    gpus.fill(uuid, VRAM_BYTES)
    assert gpus.sample((uuid,))[0].memory_free_bytes == 0
    gpus.fill(uuid, 0)
    assert gpus.sample((uuid,))[0].processes == ()


def test_a_stalled_driver_says_which_gpu_it_hangs_on_until_it_goes_on(folder: DriverFolder) -> None:
    gpus = SimulatedGpus(folder, 2)
    zero, one = (gpu.uuid for gpu in gpus.gpus)
    gpus.stall(one)
    asking = threading.Thread(target=gpus.sample, args=[(zero, one)])
    asking.start()
    while gpus.busy_with != one:
        assert asking.is_alive()
    gpus.stall(one, stalled=False)
    asking.join(PATIENCE_S)
    assert not asking.is_alive()


def test_who_closes_it_is_not_kept_by_a_stall(folder: DriverFolder) -> None:
    gpus = SimulatedGpus(folder, 1)
    (uuid,) = (gpu.uuid for gpu in gpus.gpus)
    gpus.stall(uuid)
    asking = threading.Thread(target=gpus.sample, args=[(uuid,)])
    asking.start()
    gpus.close()
    asking.join(PATIENCE_S)
    assert not asking.is_alive()
