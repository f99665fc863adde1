"""The daemon's documents as lines for people."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ollamad import __version__
from ollamad.cli.ctl import show
from ollamad.routing.snapshot import LoadView, Snapshot
from ollamad.status.view import status
from ollamad.supervision.pinning import Pinning, Proof
from ollamad.supervision.state import Phase, Want
from tests.support.control_face import child, gpu, two_children


def document(*children: Any, **differing: Any) -> dict[str, Any]:
    return status(replace(Snapshot(100.0, children or two_children()), **differing)) | {
        "daemon": {"uptime_s": 75.0, "proxy": "127.0.0.1:11434"}
    }


def test_the_whole_at_a_glance() -> None:
    told = document(waiting=1)
    told["version"] = "1.2.3"
    assert show.overview(told, None) == [
        "ollamad 1.2.3, ready: 1 of 2 children, 2 in flight, 1 waiting; up 1m15s, on 127.0.0.1:11434",
        "",
        "CHILD  PHASE      FOR  STREAMS  DEATHS  GPU           MEMORY  UTIL  MODELS",
        "gpu0   ready    1m00s   2 of 4       0  0    6.0 of 24.0 GiB   61%  llama3.2:3b",
        "gpu1   backoff      -        0       3  1    0.0 of 24.0 GiB   61%  -",
        "",
        show.other_version(told),
        "gpu1: exit status 1: CUDA error: out of memory",
    ]


def test_another_version_is_told_only_where_it_is_one() -> None:
    assert show.other_version({"version": __version__}) is None
    told = show.other_version({"version": "1.2.3"})
    assert told is not None
    assert told.startswith(f"the daemon is ollamad 1.2.3, this command {__version__}")


def test_what_concerns_no_single_child_is_told_before_what_concerns_one() -> None:
    told = show.children(document(notes=("the disk is nearly full",)), None)
    assert told[-3:] == ["", "the disk is nearly full", "gpu1: exit status 1: CUDA error: out of memory"]


def test_a_narrow_terminal_cuts_models_not_figures() -> None:
    lines = show.children(document(), 70)
    assert all(len(line) <= 70 for line in lines[:3])
    assert "6.0 of 24.0 GiB" in lines[1]
    assert "DEATHS" not in lines[0]
    assert lines[1].endswith("llama3.2:…")


def test_a_wide_child_sums_its_gpus_and_tells_the_busier() -> None:
    wide = child("gpu0+1", gpus=(gpu(0, 6.0), replace(gpu(1, 10.0), utilization_percent=99)))
    (_, line) = show.children(document(wide), None)
    assert "0+1" in line
    assert "16.0 of 48.0 GiB" in line
    assert "99%" in line


def test_what_is_not_known_is_not_guessed() -> None:
    lost = replace(gpu(0), memory_used_bytes=None, utilization_percent=None)
    (_, line) = show.children(document(child("gpu0", gpus=(lost, gpu(1)))), None)
    assert "? of 48.0 GiB" in line
    (_, on_cpu) = show.children(document(child("cpu0")), None)
    assert on_cpu.split() == ["cpu0", "ready", "1m00s", "0", "0", "cpu", "-", "-", "-"]


def test_a_child_that_is_ready_on_paper_only_says_so() -> None:
    (_, line, *_) = show.children(document(child("gpu0", trusted=False)), None)
    assert "ready, no answer" in line


def test_why_a_ready_child_once_died_is_no_news() -> None:
    assert len(show.children(document(child("gpu0", reason="exit status 1")), None)) == 2


def test_when_it_is_tried_again_is_told() -> None:
    waiting = child("gpu0", phase=Phase.BACKOFF, reason="exit status 1", next_s=112.0)
    assert show.children(document(waiting), None)[-1] == "gpu0: exit status 1 (again in 12s)"
    starting = child("gpu0", phase=Phase.STARTING, reason="exit status 1", next_s=112.0)
    assert show.children(document(starting), None)[-1] == "gpu0: exit status 1"


def test_a_quarantined_child_is_not_merely_stopped() -> None:
    sick = child("gpu0", phase=Phase.STOPPED, quarantine="GPU 0: Xid 79", reason="asked to stop")
    lines = show.children(document(sick), None)
    assert "quarantined" in lines[1]
    assert lines[-1] == "gpu0: GPU 0: Xid 79 (back by itself once that is over and its GPU has been well for a while)"


def test_what_has_failed_or_was_stuck_can_be_tried_at_once() -> None:
    failed = child("gpu0", phase=Phase.FAILED, reason="died 5 times", next_s=400.0)
    assert show.children(document(failed), None)[-1] == (
        "gpu0: died 5 times (again in 5m00s, or now with: ollamactl reset gpu0)"
    )


@pytest.mark.parametrize("phase", [Phase.STOPPED, Phase.DRAINING])
def test_a_drained_child_says_that_it_was_and_how_it_comes_back(phase: Phase) -> None:
    drained = child("gpu0", want=Want.DOWN, phase=phase)
    assert show.children(document(drained), None)[-1] == (
        "gpu0: it was drained; ollamactl undrain gpu0 takes it into use again"
    )


def test_what_a_child_loads_stands_beside_what_it_has() -> None:
    (_, line) = show.children(document(child("gpu0", load=LoadView("qwen3:14b", "", 98.0))), None)
    assert line.endswith("qwen3:14b loads")


def test_what_concerns_all_children_is_told_below_them() -> None:
    told = document(child("gpu0", version="0.5.4"), child("gpu1", version="0.9.3"))
    assert show.overview(told, None)[-1] == told["notes"][0]
    assert show.overview(told, None).count(told["notes"][0]) == 1


def test_a_newer_program_on_disk_is_offered() -> None:
    assert "ollamactl restart --rolling" in show.children(document(child("gpu0", outdated=True)), None)[-1]


def test_a_runner_where_it_should_not_be_is_told() -> None:
    pinning = Pinning(Proof.WRONG_GPU, "m:latest runs on GPU 1")
    assert show.children(document(child("gpu0", pinning=pinning)), None)[-1] == "gpu0: m:latest runs on GPU 1"
    pinning = Pinning(Proof.ON_CPU, "none of it in VRAM")
    assert show.children(document(child("gpu0", pinning=pinning)), None)[-1] == (
        "gpu0: none of it in VRAM; ollamactl logs gpu0 has what Ollama found of its GPU"
    )


def test_a_reason_is_shown_without_what_a_terminal_would_obey() -> None:
    lines = show.children(document(child("gpu0", phase=Phase.BACKOFF, reason="bad \x1b[31m")), None)
    assert lines[-1] == "gpu0: bad ?[31m"


def test_no_gpu_no_request_no_model_and_no_operation_are_said_in_words() -> None:
    assert show.gpus({"gpus": []}, 80) == ["there is no GPU: the children run on the CPU"]
    assert show.requests({"requests": [], "waiting": 0}, 80) == ["nothing is in flight"]
    assert show.models({"models": [], "pulls": [], "wanted": []}, 80) == [
        "there are no models: get one with ollamactl pull MODEL"
    ]
    assert show.operations({"operations": []}, 80) == ["no long operation has run"]


def test_below_the_models_stands_what_is_on_its_way_and_what_is_asked_for_in_vain() -> None:
    told = {
        "models": [],
        "pulls": [
            {"model": "a:latest", "status": "pulling d7ab", "completed_bytes": 1 << 30, "total_bytes": 3 << 30},
            {"model": "b:latest", "status": "", "completed_bytes": 0, "total_bytes": 0},
        ],
        "wanted": [
            {"key": "models.ensure", "model": "c", "state": "there", "reason": None, "retry_in_s": None},
            {"key": "models.ensure", "model": "d", "state": "retrying", "reason": "no such host", "retry_in_s": 12.0},
        ],
    }
    assert show.models(told, 80)[1:] == [
        "",
        "a:latest: pulling d7ab, 1.0 GiB of 3.0 GiB",
        "b:latest: the pull begins",
        "d, asked for by models.ensure, is retrying: no such host (again in 12s)",
    ]


def test_requests_tell_for_how_long_they_have_been_silent() -> None:
    told = {
        "waiting": 2,
        "requests": [
            {"child": "gpu0", "model": "m:latest", "age_s": 10.0, "heard_age_s": 0.25, "held": True},
            {"child": "gpu1", "model": None, "age_s": 2.0, "heard_age_s": None, "held": False},
        ],
    }
    assert show.requests(told, None) == [
        "CHILD  MODEL      AGE  LAST BYTE",
        "gpu0   m:latest   10s  0.2s ago, its client is slow",
        "gpu1   -         2.0s  none yet",
        "2 more wait for a child",
    ]


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"step": "drains", "child": "gpu0", "streams": 3}, "gpu0: drains (streams 3)"),
        (
            {"step": "configuration", "changed": ["log.level", "a.b"], "added": []},
            "in force now: log.level, a.b",
        ),
        (
            {
                "step": "configuration",
                "changed": ["proxy.listen", "log.level"],
                "after_restart_of_ollamad": ["proxy.listen", "status.listen"],
                "added": ["cpu1"],
                "removed": [],
            },
            "in force now: log.level; only after a restart of ollamad: proxy.listen, status.listen; added: cpu1",
        ),
        ({"step": "configuration", "changed": [], "added": []}, "nothing differs"),
        ({"step": "pruned", "dry_run": True, "files": 2, "disk_bytes": 3 << 30}, "2 files would be deleted, 3.0 GiB"),
        ({"step": "pruned", "dry_run": False, "files": 0, "disk_bytes": 0}, "0 files are deleted, 0 B"),
        ({"child": "gpu0", "step": "ready", "ollama_version": None}, "gpu0: ready"),
        ({"models": 3}, "models 3"),
        ({"step": "\x1b[2J"}, "?[2J"),
    ],
)
def test_progress_reads_as_a_line(facts: dict[str, object], said: str) -> None:
    assert show.progress(facts) == said


def test_a_route_that_leads_nowhere_for_now_has_no_time() -> None:
    document = {"model": "m", "verdict": "wait", "child": None, "reason": "waits for a child that may load it"}
    told = show.route({**document, "expected_s": None, "children": {}}, None, explain=False)
    assert told == ["m: wait: waits for a child that may load it"]
