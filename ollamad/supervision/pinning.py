"""Whether a child's models are where they were pinned: its processes, held against each GPU's list of processes.

Three witnesses, none of which suffices alone. The driver's list shows *who* is on a GPU, but not in every container:
it can be refused, be empty, or number processes as the host does. `/api/ps` shows *how much* of a model is in VRAM, but
not on which GPU. The child's process tree says which of the listed are ours. What they do not show is unproven, never
fine.

The list and `/api/ps` are not of the same instant: judge with a list that was read after `/api/ps` was, and act on a
fault that two rounds in a row agree on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

GIB: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """One process that the driver lists on a GPU."""

    pid: int
    used_bytes: int | None
    """Its memory on that GPU; None where the driver does not say, as in containers."""
    here: bool = True
    """Whether this machine, as we see it, has a process of that number. False for the host's numbers in a container."""


Listed = Mapping[str, tuple[GpuProcess, ...] | None]
"""The processes on each GPU, by UUID; None where the list can't be read."""


class Loaded(Protocol):
    """A model that a child has loaded; `routing.snapshot.Resident` is one."""

    @property
    def size_bytes(self) -> int | None:
        """All of it."""

    @property
    def vram_bytes(self) -> int | None:
        """What of it is in VRAM."""


class Proof(Enum):
    """What is known of where a child's models are."""

    NOTHING_LOADED = "nothing loaded"
    PROVEN = "proven"
    """On a GPU of its own, on no other, and no part of it is known to be on the CPU."""
    WRONG_GPU = "wrong gpu"
    ON_CPU = "on cpu"
    """Loaded, but not in VRAM, or its runner is on no GPU."""
    PARTLY_ON_CPU = "partly on cpu"
    UNPROVEN = "unproven"


@dataclass(frozen=True, slots=True)
class Pinning:
    """A verdict on one child."""

    proof: Proof
    text: str
    """For people, one line."""
    uuids: tuple[str, ...] = ()
    """The GPUs that it has no business on; for WRONG_GPU alone."""

    @property
    def is_fault(self) -> bool:
        """Whether something is known to be wrong; what is unproven is not."""
        return self.proof in {Proof.WRONG_GPU, Proof.ON_CPU, Proof.PARTLY_ON_CPU}


def pinning(tree: frozenset[int], own: Sequence[str], listed: Listed, residents: Sequence[Loaded]) -> Pinning:
    """Judge one child. `tree` is its server and all under it; `listed` has every GPU of the machine, not only `own`.

    Total. A child without a GPU is proven when it is on none.
    """
    if not residents:
        return Pinning(Proof.NOTHING_LOADED, "no model is loaded")
    on = frozenset(uuid for uuid, processes in listed.items() if processes and _any_of(tree, processes))
    if wrong := tuple(sorted(on - set(own))):
        return Pinning(Proof.WRONG_GPU, f"a runner is on {', '.join(wrong)}, which is another's", wrong)
    blind = _blind(listed, {*own, *listed})
    if not own:
        return Pinning(Proof.UNPROVEN, blind) if blind else Pinning(Proof.PROVEN, "on the CPU, as it is meant to be")
    return _spilled(residents) or _by_lists(on, listed, blind)


def foreign_bytes(
    processes: Iterable[GpuProcess] | None, ours: frozenset[int], used_bytes: int | None, said_bytes: int | None = None
) -> int | None:
    """Memory of a GPU that is used by processes that are not ours; None where that can't be told.

    `ours` are the process trees of all children, and `said_bytes` is what their `/api/ps` put on this GPU together.
    Where the driver does not say how much each process has, what is used beyond `said_bytes` is foreign, provided that
    no process of others is listed: it then holds the CUDA contexts of our runners too, some hundred MiB each.
    """
    if processes is None:
        return None
    listed = tuple(processes)
    others = [process.used_bytes for process in listed if process.pid not in ours]
    if others:
        return None if None in others else sum(size for size in others if size is not None)
    if listed and all(process.used_bytes is not None for process in listed):
        return 0
    return None if used_bytes is None or said_bytes is None else max(0, used_bytes - said_bytes)


def _by_lists(on: frozenset[str], listed: Listed, blind: str) -> Pinning:
    """What the lists say of a child that is on no wrong GPU, `on` being those that it is on."""
    if blind:
        return Pinning(Proof.UNPROVEN, blind)
    if on:
        return Pinning(Proof.PROVEN, f"on {', '.join(sorted(on))}, and on no other GPU")
    if not any(process.here for processes in listed.values() for process in processes or ()):
        return Pinning(Proof.UNPROVEN, "the driver lists no process that is seen here, as in a container")
    return Pinning(Proof.ON_CPU, "a model is loaded, but no runner is on a GPU")


def _any_of(pids: frozenset[int], processes: Iterable[GpuProcess]) -> bool:
    return any(process.pid in pids for process in processes)


def _blind(listed: Listed, uuids: Iterable[str]) -> str:
    """Which lists are missing, one line; empty where all can be read."""
    missing = sorted(uuid for uuid in uuids if listed.get(uuid) is None)
    return f"the processes on {', '.join(missing)} can't be read" if missing else ""


def _spilled(residents: Sequence[Loaded]) -> Pinning | None:
    """What `/api/ps` says is not in VRAM; None where it says that all is, or does not say."""
    known = [
        (one.size_bytes, one.vram_bytes)
        for one in residents
        if one.size_bytes is not None and one.vram_bytes is not None and one.size_bytes > 0
    ]
    size, vram = sum(size for size, _ in known), sum(min(vram, size) for size, vram in known)
    if vram == size:
        return None
    if vram == 0 and len(known) == len(residents):
        return Pinning(Proof.ON_CPU, f"{size / GIB:.1f} GiB are loaded, none of it in VRAM")
    return Pinning(Proof.PARTLY_ON_CPU, f"{vram / GIB:.1f} of {size / GIB:.1f} GiB are in VRAM, the rest is on the CPU")
