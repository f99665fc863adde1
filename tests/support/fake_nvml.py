"""A driver of NVIDIA's that a test commands: fake_nvml.c under the real binding, and the file of its state.

def test_…(make_driver: MakeDriver) -> None:
    driver = make_driver(FakeGpu(), FakeGpu(name="NVIDIA A100"))
    process = subprocess.Popen(…, env=os.environ | driver.env())
    driver.set_fault(1, Call.TEMPERATURE, Code.NOT_SUPPORTED)   # at once, in that process
"""

from __future__ import annotations

import ctypes
import hashlib
import mmap
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from pathlib import Path
from typing import Final, Protocol

import pytest

SOURCE: Final = Path(__file__).with_suffix(".c")
SONAME: Final = "libnvidia-ml.so.1"
GIB: Final = 1 << 30
NOT_SAID: Final = (1 << 64) - 1
"""NVML_VALUE_NOT_AVAILABLE: what containers see as the memory of a process."""
MAGIC: Final = 0x4C4D564E
MAX_GPUS: Final = 16
MAX_PROCESSES: Final = 32
MAX_EVENTS: Final = 256
TEXT: Final = 96


class DriverCall(IntEnum):
    """A call that concerns no GPU in particular."""

    INIT = 0
    DRIVER_VERSION = 1
    COUNT = 2
    EVENT_SET = 3
    EVENT_WAIT = 4


class Call(IntEnum):
    """A call on one GPU, in all of its versions; REGISTER_EVENTS is also to ask which events there are."""

    OPEN_BY_INDEX = 0
    OPEN_BY_UUID = 1
    INDEX = 2
    UUID = 3
    NAME = 4
    MEMORY = 5
    UTILIZATION = 6
    TEMPERATURE = 7
    PROCESSES = 8
    GRAPHICS_PROCESSES = 9
    POWER = 10
    CLOCK_REASONS = 11
    ECC = 12
    REGISTER_EVENTS = 13


class Slowdown(IntFlag):
    """Why clocks are lower than they could be, as nvmlClocksEventReason has it."""

    NONE = 0x00
    IDLE = 0x01
    POWER_CAP = 0x04
    HARDWARE = 0x08
    HEAT = 0x20
    HEAT_HARDWARE = 0x40
    POWER_BRAKE = 0x80


class EventType(IntEnum):
    """What a driver reports by itself."""

    ECC_CORRECTED = 0x1
    ECC_UNCORRECTED = 0x2
    XID = 0x8


class Code(IntEnum):
    """What a call answers. All but HANG are values of nvmlReturn_t."""

    OK = 0
    NOT_SUPPORTED = 3
    NO_PERMISSION = 4
    DRIVER_NOT_LOADED = 9
    TIMEOUT = 10
    GPU_IS_LOST = 15
    LIB_RM_VERSION_MISMATCH = 18
    UNKNOWN = 999
    HANG = -1
    """The call does not return until the fault is another."""


@dataclass(frozen=True, slots=True)
class FakeProcess:
    """A process on a GPU; its memory is None where the driver does not say."""

    pid: int
    used_bytes: int | None


@dataclass(frozen=True, slots=True)
class FakeGpu:
    """What a GPU is at first. Without a UUID it gets one from its index, `fake_uuid`."""

    uuid: str | None = None
    name: str = "NVIDIA H100 80GB HBM3"
    total_bytes: int = 80 * GIB
    used_bytes: int = 0
    reserved_bytes: int = GIB // 2
    utilization_percent: int = 0
    temperature_c: int = 40
    power_w: float = 70.0
    old_driver: bool = False
    """As a driver before 510: it lacks the newer version of each call that has two."""


def fake_uuid(index: int) -> str:
    """The UUID of the GPU of this index, unlike the others from its first character on."""
    return f"GPU-{index:x}f5e7c1d-0000-4000-8000-{index:012x}"


class _Process(ctypes.Structure):
    _fields_ = (
        ("pid", ctypes.c_uint32),
        ("used_bytes", ctypes.c_uint64),
        ("gpu_instance", ctypes.c_uint32),
        ("compute_instance", ctypes.c_uint32),
    )


class _Gpu(ctypes.Structure):
    _fields_ = (
        ("uuid", ctypes.c_char * TEXT),
        ("name", ctypes.c_char * TEXT),
        ("total_bytes", ctypes.c_uint64),
        ("used_bytes", ctypes.c_uint64),
        ("reserved_bytes", ctypes.c_uint64),
        ("utilization_percent", ctypes.c_uint32),
        ("temperature_c", ctypes.c_uint32),
        ("lost", ctypes.c_uint32),
        ("gone", ctypes.c_uint32),
        ("old_driver", ctypes.c_uint32),
        ("power_mw", ctypes.c_uint32),
        ("clock_reasons", ctypes.c_uint64),
        ("ecc_uncorrected", ctypes.c_uint64),
        ("faults", ctypes.c_int32 * len(Call)),
        ("process_count", ctypes.c_uint32),
        ("processes", _Process * MAX_PROCESSES),
        ("graphics_count", ctypes.c_uint32),
        ("graphics", _Process * MAX_PROCESSES),
    )


class _Event(ctypes.Structure):
    _fields_ = (("gpu", ctypes.c_uint32), ("type", ctypes.c_uint64), ("data", ctypes.c_uint64))


class _State(ctypes.Structure):
    _fields_ = (
        ("magic", ctypes.c_uint32),
        ("size", ctypes.c_uint32),
        ("driver_version", ctypes.c_char * TEXT),
        ("faults", ctypes.c_int32 * len(DriverCall)),
        ("gpu_count", ctypes.c_uint32),
        ("gpus", _Gpu * MAX_GPUS),
        ("event_count", ctypes.c_uint32),
        ("events", _Event * MAX_EVENTS),
    )


def build_fake_nvml(directory: Path) -> Path:
    """Compile the library, unless `directory` has it already; gives the folder that LD_LIBRARY_PATH has to name."""
    folder = directory / hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    library = folder / SONAME
    if not library.exists():
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = folder / f"{SONAME}.{os.getpid()}"
        flags = ["-std=c17", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", f"-Wl,-soname,{SONAME}"]
        # GNU's dialect of the library, for nanosleep and strcasecmp.
        subprocess.run(["gcc", *flags, "-D_GNU_SOURCE", "-o", unfinished, SOURCE], check=True)
        unfinished.replace(library)
    return folder


class FakeDriver:
    """The state of one fake driver. Every change shows at once in each process that runs with `env()`."""

    def __init__(self, state_file: Path, library: Path) -> None:
        self.state_file = state_file
        self.library = library
        with state_file.open("r+b") as file:
            self._state = _State.from_buffer(mmap.mmap(file.fileno(), ctypes.sizeof(_State)))

    @classmethod
    def create(
        cls, state_file: Path, gpus: Sequence[FakeGpu], *, library: Path, driver_version: str = "570.124.06"
    ) -> FakeDriver:
        """A driver with these GPUs, and no fault; `library` is what `build_fake_nvml` gave."""
        state_file.write_bytes(bytes(ctypes.sizeof(_State)))
        driver = cls(state_file, library)
        state = driver._state
        state.magic, state.size = MAGIC, ctypes.sizeof(_State)
        state.driver_version = driver_version.encode()
        for gpu in gpus:
            driver.add(gpu)
        return driver

    def env(self) -> dict[str, str]:
        """What a process needs in its environment to have this driver."""
        folders = [str(self.library), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
        return {"LD_LIBRARY_PATH": ":".join(folders), "FAKE_NVML_STATE": str(self.state_file)}

    def add(self, gpu: FakeGpu) -> None:
        """One more GPU, of the next index. As with NVML, a process sees it only after its next nvmlInit."""
        index = self._state.gpu_count
        self._state.gpus[index].uuid = fake_uuid(index).encode()
        self._state.gpu_count += 1
        self.replace(index, gpu)

    def replace(self, index: int, gpu: FakeGpu) -> None:
        """Another GPU in this one's place. Without a UUID of its own it keeps the old one's."""
        place = self._gpu(index)
        if gpu.uuid is not None:
            place.uuid = gpu.uuid.encode()
        place.name = gpu.name.encode()
        place.old_driver = gpu.old_driver
        self.set_memory(index, total=gpu.total_bytes, used=gpu.used_bytes, reserved=gpu.reserved_bytes)
        self.set_utilization(index, gpu.utilization_percent)
        self.set_temperature(index, gpu.temperature_c)
        self.set_power(index, gpu.power_w)

    def set_memory(
        self, gpu: int, *, used: int | None = None, total: int | None = None, reserved: int | None = None
    ) -> None:
        """Bytes; what is None stays as it is."""
        for field, value in {"used_bytes": used, "total_bytes": total, "reserved_bytes": reserved}.items():
            if value is not None:
                setattr(self._gpu(gpu), field, value)

    def set_utilization(self, gpu: int, percent: int) -> None:
        """What every kernel's share of the time reads as."""
        self._gpu(gpu).utilization_percent = percent

    def set_temperature(self, gpu: int, celsius: int) -> None:
        """What the GPU's own sensor reads."""
        self._gpu(gpu).temperature_c = celsius

    def set_power(self, gpu: int, watts: float, slowdown: Slowdown = Slowdown.NONE) -> None:
        """What it draws, and what holds its clocks down."""
        self._gpu(gpu).power_mw = round(watts * 1000)
        self._gpu(gpu).clock_reasons = slowdown

    def set_ecc_uncorrected(self, gpu: int, count: int) -> None:
        """How many memory errors could not be corrected, since the driver was loaded."""
        self._gpu(gpu).ecc_uncorrected = count

    def set_processes(self, gpu: int, processes: Sequence[FakeProcess], graphics: Sequence[FakeProcess] = ()) -> None:
        """All compute processes of this GPU, and all that draw on it."""
        place = self._gpu(gpu)
        place.process_count = place.graphics_count = 0  # so that nobody reads a list that is half the old one
        for to, given in ((place.processes, processes), (place.graphics, graphics)):
            for index, process in enumerate(given):
                to[index].pid = process.pid
                to[index].used_bytes = NOT_SAID if process.used_bytes is None else process.used_bytes
        place.process_count, place.graphics_count = len(processes), len(graphics)

    def report(self, gpu: int, kind: EventType, data: int = 0) -> None:
        """An event of this GPU, for all who have registered for it before."""
        self._gpu(gpu)
        number = self._state.event_count
        event = self._state.events[number % MAX_EVENTS]
        event.gpu, event.type, event.data = gpu, kind, data
        self._state.event_count = number + 1

    def xid(self, gpu: int, code: int) -> None:
        """An Xid error, as the kernel's log has it too."""
        self.report(gpu, EventType.XID, code)

    def vanish(self, gpu: int, *, gone: bool = True) -> None:
        """Taken away, or back again: a running process sees it as lost, and one that starts NVML not at all.

        The others move up an index there; here each keeps the number it was made with.
        """
        self._gpu(gpu).gone = gone

    def set_lost(self, gpu: int, *, lost: bool = True) -> None:
        """Fallen off the bus: every call on it answers GPU_IS_LOST, although the driver still counts it."""
        self._gpu(gpu).lost = lost

    def set_fault(self, gpu: int, call: Call, code: Code) -> None:
        """What this call on this GPU answers from now on."""
        self._gpu(gpu).faults[call] = code

    def set_driver_fault(self, call: DriverCall, code: Code) -> None:
        """What this call of the driver as a whole answers from now on."""
        self._state.faults[call] = code

    def hang(self, gpu: int, call: Call) -> None:
        """Let this call on this GPU not return until `clear`."""
        self.set_fault(gpu, call, Code.HANG)

    def clear(self) -> None:
        """Take back every fault; calls that hang return. A GPU that is lost or gone stays so."""
        for driver_call in DriverCall:
            self.set_driver_fault(driver_call, Code.OK)
        for index in range(self._state.gpu_count):
            for call in Call:
                self.set_fault(index, call, Code.OK)

    def _gpu(self, index: int) -> _Gpu:
        if not 0 <= index < self._state.gpu_count:
            raise IndexError(f"the fake driver has {self._state.gpu_count} GPUs, not one of index {index}")
        gpu: _Gpu = self._state.gpus[index]
        return gpu


class MakeDriver(Protocol):
    """Makes a fake driver that has these GPUs."""

    def __call__(self, *gpus: FakeGpu) -> FakeDriver: ...


@pytest.fixture(scope="session")
def fake_nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_fake_nvml(tmp_path_factory.mktemp("fake-nvml"))


@pytest.fixture
def make_driver(fake_nvml_library: Path, tmp_path: Path) -> MakeDriver:
    def make(*gpus: FakeGpu) -> FakeDriver:
        return FakeDriver.create(tmp_path / "nvml-state", gpus, library=fake_nvml_library)

    return make
