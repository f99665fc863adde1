"""A snapshot as the JSON of `GET /status`. Monotonic times leave as ages: no other process shares that clock."""

from __future__ import annotations

from typing import Any, Final

from ollamad import __version__
from ollamad.routing.snapshot import ChildView, GpuView, LoadView, Snapshot
from ollamad.status.age import age_s

SCHEMA: Final = 1


def status(snapshot: Snapshot) -> dict[str, Any]:
    """All that a snapshot tells; how it stands with models is `models.models_status`."""
    now_s = snapshot.taken_at_s
    return {
        "schema": SCHEMA,
        "version": __version__,
        "ready": is_ready(snapshot),
        "stopping": snapshot.stopping,
        "waiting": snapshot.waiting,
        "in_flight": sum(child.in_flight for child in snapshot.children),
        "notes": _notes(snapshot),
        "children": [_child(child, now_s) for child in snapshot.children],
        "gpus_without_child": [_gpu(gpu, now_s) for gpu in snapshot.others],
    }


def _notes(snapshot: Snapshot) -> list[str]:
    """What an operator should know, and no single child shows."""
    versions = {child.id: child.version for child in snapshot.children if child.version}
    if len(set(versions.values())) <= 1:
        return list(snapshot.notes)
    told = ", ".join(f"{child} {version}" for child, version in versions.items())
    return [*snapshot.notes, f"the children's Ollamas differ ({told}); clients are told the lowest version"]


def is_ready(snapshot: Snapshot) -> bool:
    """Whether at least one child can take requests."""
    return not snapshot.stopping and any(child.routable for child in snapshot.children)


def _child(child: ChildView, now_s: float) -> dict[str, Any]:
    return {
        "id": child.id,
        "want": child.want.value,
        "phase": child.phase.value,
        "routable": child.routable,
        "trusted": child.trusted,
        "reason": child.reason,
        "pid": child.pid,
        "port": child.port,
        "ollama_version": child.version,
        "life": child.life,
        "deaths": child.deaths,
        "failures": child.failures,
        "quarantine": child.quarantine,
        "changes_in_s": _until(child.next_s, now_s),
        "pinning": None if child.pinning is None else {"proof": child.pinning.proof.value, "text": child.pinning.text},
        "outdated": child.outdated,
        "ready_for_s": age_s(child.ready_since_s, now_s),
        "in_flight": child.in_flight,
        "slots": child.slots,
        "streams": [
            {
                "model": stream.model,
                "age_s": age_s(stream.since_s, now_s),
                "silent_s": age_s(stream.heard_s, now_s),
                "held": stream.held,
            }
            for stream in child.streams
        ],
        "models": [
            {
                "name": resident.model,
                "size_bytes": resident.size_bytes,
                "vram_bytes": resident.vram_bytes,
                "expires_at": resident.expires_at,
                "loaded_for_s": age_s(resident.since_s, now_s),
                "options": resident.shape,
            }
            for resident in child.residents
        ],
        "models_age_s": age_s(child.residents_at_s, now_s),
        "models_max": child.models_max,
        "load": None if child.load is None else _load(child.load, now_s),
        "kind": child.kind,
        "memory_for_models_bytes": child.memory_bytes,
        "weight": child.weight,
        "gpus": [_gpu(gpu, now_s) for gpu in child.gpus],
    }


def _load(load: LoadView, now_s: float) -> dict[str, Any]:
    return {"model": load.model, "age_s": age_s(load.since_s, now_s), "evicts": list(load.evicts)}


def _gpu(gpu: GpuView, now_s: float) -> dict[str, Any]:
    return {
        "index": gpu.index,
        "uuid": gpu.uuid,
        "name": gpu.name,
        "memory_total_bytes": gpu.memory_total_bytes,
        "memory_used_bytes": gpu.memory_used_bytes,
        "memory_free_bytes": gpu.memory_free_bytes,
        "utilization_percent": gpu.utilization_percent,
        "memory_foreign_bytes": gpu.foreign_bytes,
        "utilization_smoothed_percent": gpu.utilization_smoothed_percent,
        "temperature_c": gpu.temperature_c,
        "power_w": gpu.power_w,
        "throttled": gpu.throttled,
        "quarantined": gpu.quarantined,
        "sample_age_s": age_s(gpu.sampled_at_s, now_s),
        "error": gpu.error,
    }


def _until(then_s: float | None, now_s: float) -> float | None:
    return None if then_s is None else round(max(0.0, then_s - now_s), 3)
