"""The part of `GET /metrics` that tells of GPUs. A reading that the driver refuses has no sample."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from ollamad.routing.snapshot import GpuView, Snapshot
from ollamad.status.age import age_s
from ollamad.status.exposition import Exposition, Labels

Reading = Callable[[GpuView], float | None]
GAUGES: Final[tuple[tuple[str, str, Reading], ...]] = (
    ("ollamad_gpu_memory_total_bytes", "Memory that it has.", lambda gpu: gpu.memory_total_bytes),
    (
        "ollamad_gpu_utilization_ratio",
        "Share of the driver's last window in which any kernel ran; not how full it is.",
        lambda gpu: None if gpu.utilization_percent is None else gpu.utilization_percent / 100,
    ),
    ("ollamad_gpu_temperature_celsius", "What its own sensor reads.", lambda gpu: gpu.temperature_c),
    ("ollamad_gpu_power_watts", "What it draws.", lambda gpu: gpu.power_w),
    ("ollamad_gpu_throttled", "Whether heat or power holds its clocks down.", lambda gpu: gpu.throttled),
    (
        "ollamad_gpu_quarantined",
        "Whether it gets no child because something ails it.",
        lambda gpu: gpu.quarantined is not None,
    ),
    ("ollamad_gpu_up", "Whether it gives readings.", lambda gpu: gpu.error is None and gpu.sampled_at_s is not None),
)


def put_gpus(page: Exposition, snapshot: Snapshot) -> None:
    """All GPUs, each once."""
    owners = owned(snapshot)
    gpus = [gpu for gpu, _ in owners]
    page.gauge(
        "ollamad_gpu_info",
        "1, with its name and its child as labels.",
        [({**_labels(gpu), "name": gpu.name, "child": child}, 1) for gpu, child in owners],
    )
    page.gauge(
        "ollamad_gpu_memory_bytes",
        "Its memory by who has it: ours, foreign, free; unknown where the driver does not tell whose it is.",
        [({**_labels(gpu), "use": use}, size) for gpu in gpus for use, size in _uses(gpu)],
    )
    for name, told, reading in GAUGES:
        page.gauge(name, told, [(_labels(gpu), reading(gpu)) for gpu in gpus])
    page.gauge(
        "ollamad_gpu_sample_age_seconds",
        "How old its readings are.",
        [(_labels(gpu), age_s(gpu.sampled_at_s, snapshot.taken_at_s)) for gpu in gpus],
    )


def owned(snapshot: Snapshot) -> list[tuple[GpuView, str]]:
    """Each GPU once, with the first child that has it; empty where none has."""
    found: dict[str, tuple[GpuView, str]] = {}
    for child in snapshot.children:
        for gpu in child.gpus:
            found.setdefault(gpu.uuid, (gpu, child.id))
    for gpu in snapshot.others:
        found.setdefault(gpu.uuid, (gpu, ""))
    return list(found.values())


def _uses(gpu: GpuView) -> Iterator[tuple[str, int]]:
    if gpu.memory_used_bytes is not None:
        if gpu.foreign_bytes is None:
            yield "unknown", gpu.memory_used_bytes
        else:
            yield "ours", max(0, gpu.memory_used_bytes - gpu.foreign_bytes)
            yield "foreign", gpu.foreign_bytes
    if gpu.memory_free_bytes is not None:
        yield "free", gpu.memory_free_bytes


def _labels(gpu: GpuView) -> Labels:
    return {"gpu": str(gpu.index), "uuid": gpu.uuid}
