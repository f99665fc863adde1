from __future__ import annotations

import json
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamad import __version__
from ollamad.routing.snapshot import ChildView, GpuView, LoadView, Resident, Snapshot, StreamView
from ollamad.status.view import is_ready, status
from ollamad.supervision.pinning import Pinning, Proof
from ollamad.supervision.state import Phase, Want

GPU = GpuView(
    index=3,
    uuid="GPU-aa",
    name="NVIDIA A100",
    memory_total_bytes=80,
    memory_used_bytes=20,
    memory_free_bytes=80,
    utilization_percent=99,
    temperature_c=60,
    sampled_at_s=1_007.5,
    error=None,
    power_w=300.0,
    throttled=False,
    utilization_smoothed_percent=97.5,
    foreign_bytes=7,
)
READY = ChildView(
    id="gpu3",
    want=Want.UP,
    phase=Phase.READY,
    trusted=True,
    in_flight=2,
    slots=4,
    life=7,
    residents=(
        Resident("m:latest", 10, 9, "2026-11-24T03:16:44Z", shape='{"num_ctx":4096}', since_s=1_000.0),
        Resident("n:latest", None, None, None),
    ),
    residents_at_s=1_009.25,
    gpus=(GPU,),
    pid=123,
    port=11_500,
    version="0.33.0",
    ready_since_s=1_000.00049,
    deaths=6,
    reason="exit status 1",
    streams=(StreamView("m:latest", 1_008.0, 1_009.5, held=True),),
    failures=2,
    quarantine="GPU 3: lost",
    next_s=1_015.0,
    pinning=Pinning(Proof.PROVEN, "on GPU-aa, and on no other GPU"),
    outdated=True,
    models_max=3,
    load=LoadView("o:latest", "", 1_008.5, ("n:latest",)),
    kind="NVIDIA A100",
    memory_bytes=70,
    weight=2.0,
)
NEW = ChildView(id="cpu0", want=Want.UP, phase=Phase.STARTING, trusted=True, in_flight=1)
SNAPSHOT = Snapshot(taken_at_s=1_010.0, children=(READY, NEW), waiting=5)


def test_a_snapshot_reads_as_json_with_ages_in_place_of_times() -> None:
    assert json.loads(json.dumps(status(SNAPSHOT))) == {
        "schema": 1,
        "version": __version__,
        "ready": True,
        "stopping": False,
        "waiting": 5,
        "in_flight": 3,
        "notes": [],
        "children": [
            {
                "id": "gpu3",
                "want": "up",
                "phase": "ready",
                "routable": True,
                "trusted": True,
                "reason": "exit status 1",
                "pid": 123,
                "port": 11_500,
                "ollama_version": "0.33.0",
                "life": 7,
                "deaths": 6,
                "failures": 2,
                "quarantine": "GPU 3: lost",
                "changes_in_s": 5.0,
                "pinning": {"proof": "proven", "text": "on GPU-aa, and on no other GPU"},
                "outdated": True,
                "ready_for_s": 10.0,  # to the millisecond
                "in_flight": 2,
                "slots": 4,
                "streams": [{"model": "m:latest", "age_s": 2.0, "silent_s": 0.5, "held": True}],
                "models": [
                    {
                        "name": "m:latest",
                        "size_bytes": 10,
                        "vram_bytes": 9,
                        "expires_at": "2026-11-24T03:16:44Z",
                        "loaded_for_s": 10.0,
                        "options": '{"num_ctx":4096}',
                    },
                    {
                        "name": "n:latest",
                        "size_bytes": None,
                        "vram_bytes": None,
                        "expires_at": None,
                        "loaded_for_s": None,
                        "options": "",
                    },
                ],
                "models_age_s": 0.75,
                "models_max": 3,
                "load": {"model": "o:latest", "age_s": 1.5, "evicts": ["n:latest"]},
                "kind": "NVIDIA A100",
                "memory_for_models_bytes": 70,
                "weight": 2.0,
                "gpus": [
                    {
                        "index": 3,
                        "uuid": "GPU-aa",
                        "name": "NVIDIA A100",
                        "memory_total_bytes": 80,
                        "memory_used_bytes": 20,
                        "memory_free_bytes": 80,
                        "utilization_percent": 99,
                        "memory_foreign_bytes": 7,
                        "utilization_smoothed_percent": 97.5,
                        "temperature_c": 60,
                        "power_w": 300.0,
                        "throttled": False,
                        "quarantined": None,
                        "sample_age_s": 2.5,
                        "error": None,
                    }
                ],
            },
            {
                "id": "cpu0",
                "want": "up",
                "phase": "starting",
                "routable": False,
                "trusted": True,
                "reason": None,
                "pid": None,
                "port": None,
                "ollama_version": None,
                "life": 0,
                "deaths": 0,
                "failures": 0,
                "quarantine": None,
                "changes_in_s": None,
                "pinning": None,
                "outdated": False,
                "ready_for_s": None,
                "in_flight": 1,
                "slots": 1,
                "streams": [],
                "models": [],
                "models_age_s": None,
                "models_max": 1_000,
                "load": None,
                "kind": "cpu",
                "memory_for_models_bytes": None,
                "weight": 1.0,
                "gpus": [],
            },
        ],
        "gpus_without_child": [],
    }


@given(st.integers(-1_000, 1_000_000))
def test_what_the_clock_says_is_nobody_elses_affair(by_s: int) -> None:
    gpu = replace(GPU, sampled_at_s=1_007.5 + by_s)
    streams = (StreamView("m:latest", 1_008.0 + by_s, 1_009.5 + by_s, held=True),)
    child = msgspec.structs.replace(
        READY,
        ready_since_s=1_000.00049 + by_s,
        residents_at_s=1_009.25 + by_s,
        gpus=(gpu,),
        next_s=1_015.0 + by_s,
        streams=streams,
        load=LoadView("o:latest", "", 1_008.5 + by_s, ("n:latest",)),
        residents=tuple(
            one if one.since_s is None else replace(one, since_s=one.since_s + by_s) for one in READY.residents
        ),
    )
    assert status(replace(SNAPSHOT, taken_at_s=1_010.0 + by_s, children=(child, NEW))) == status(SNAPSHOT)


def test_a_gpu_that_gives_no_reading_says_why() -> None:
    lost = replace(
        GPU,
        memory_total_bytes=None,
        memory_used_bytes=None,
        memory_free_bytes=None,
        utilization_percent=None,
        temperature_c=None,
        sampled_at_s=None,
        error="GPU is lost",
    )
    (child,) = status(Snapshot(0.0, (msgspec.structs.replace(READY, gpus=(lost,)),)))["children"]
    assert child["gpus"] == [
        {
            "index": 3,
            "uuid": "GPU-aa",
            "name": "NVIDIA A100",
            "memory_total_bytes": None,
            "memory_used_bytes": None,
            "memory_free_bytes": None,
            "utilization_percent": None,
            "memory_foreign_bytes": 7,
            "utilization_smoothed_percent": 97.5,
            "temperature_c": None,
            "power_w": 300.0,
            "throttled": False,
            "quarantined": None,
            "sample_age_s": None,
            "error": "GPU is lost",
        }
    ]


def test_children_of_different_versions_are_noted() -> None:
    other = msgspec.structs.replace(NEW, version="0.32.1")
    (note,) = status(replace(SNAPSHOT, children=(READY, other)))["notes"]
    assert "gpu3 0.33.0, cpu0 0.32.1" in note
    assert status(replace(SNAPSHOT, children=(READY, NEW)))["notes"] == []


CHILDREN = st.lists(
    st.builds(
        ChildView,
        id=st.sampled_from(["a", "b", "c"]),
        want=st.sampled_from(Want),
        phase=st.sampled_from(Phase),
        trusted=st.booleans(),
        in_flight=st.integers(0, 9),
    ),
    max_size=5,
)


@given(CHILDREN, st.booleans())
def test_ready_is_to_have_a_child_that_can_take_requests_and_not_to_be_stopping(
    children: list[ChildView],
    stopping: bool,  # noqa: FBT001
) -> None:
    snapshot = Snapshot(0.0, tuple(children), stopping=stopping)
    told = status(snapshot)
    assert told["ready"] == is_ready(snapshot)
    assert told["ready"] == (not stopping and any(child["routable"] for child in told["children"]))
    assert told["in_flight"] == sum(child.in_flight for child in children)
    assert [child["id"] for child in told["children"]] == [child.id for child in children]


@pytest.mark.parametrize(
    ("snapshot", "ready"),
    [
        (SNAPSHOT, True),
        (replace(SNAPSHOT, stopping=True), False),
        (replace(SNAPSHOT, children=(NEW,)), False),
        (replace(SNAPSHOT, children=(msgspec.structs.replace(READY, trusted=False),)), False),
        (replace(SNAPSHOT, children=(msgspec.structs.replace(READY, want=Want.DOWN),)), False),
        (replace(SNAPSHOT, children=()), False),
    ],
)
def test_who_is_ready_and_who_is_not(snapshot: Snapshot, ready: object) -> None:
    assert is_ready(snapshot) is ready
