from __future__ import annotations

import re
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamad.fleet.tallies import OTHER, Histogram
from ollamad.routing.snapshot import Resident, Snapshot
from ollamad.status.exposition import NO_LABELS, Exposition
from ollamad.status.metrics import Own, metrics
from tests.support.showcase import HOSTILE, Showcase

OWN = Own(cpu_s=1.5, memory_bytes=1000, open_fds=9, started_s=1_700_000_000.25)
SAMPLE = re.compile(r'([a-z_]+)(?:\{((?:[a-z]+="(?:[^"\\\n]|\\["\\n])*",?)*)\})? (\S+)')


def page(show: Showcase, snapshot: Snapshot | None = None) -> dict[str, str]:
    """Each sample's value, by its name and labels as they are written."""
    text = metrics(snapshot or show.look(), show.tallies, OWN)
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            assert SAMPLE.fullmatch(line), line
            name, _, value = line.rpartition(" ")
            assert name not in found, f"twice: {name}"
            found[name] = value
    return found


@pytest.fixture
def show() -> Showcase:
    made = Showcase()
    made.fill()
    return made


def test_every_family_has_a_help_and_a_type_and_none_comes_twice(show: Showcase) -> None:
    lines = metrics(show.look(), show.tallies, OWN).splitlines()
    helped = [line.split()[2] for line in lines if line.startswith("# HELP ")]
    typed = {line.split()[2]: line.split()[3] for line in lines if line.startswith("# TYPE ")}
    assert len(helped) == len(set(helped)) == len(typed)
    for name, kind in typed.items():
        assert name.endswith("_total") == (kind == "counter"), name


def test_a_phase_is_one_of_all_phases(show: Showcase) -> None:
    found = page(show)
    phases = {name: value for name, value in found.items() if name.startswith('ollamad_child_phase{child="gpu3"')}
    assert len(phases) == 7
    assert [name for name, value in phases.items() if value == "1"] == [
        'ollamad_child_phase{child="gpu3",phase="backoff"}'
    ]


def test_memory_is_told_by_whose_it_is_and_as_unknown_where_the_driver_does_not_tell(show: Showcase) -> None:
    found = page(show)

    def memory(index: int) -> dict[str, int]:
        name = f'ollamad_gpu_memory_bytes{{gpu="{index}",uuid="GPU-{index:08x}-0000-4000-8000-000000000000",use='
        return {key[len(name) + 1 : -2]: int(value) for key, value in found.items() if key.startswith(name)}

    assert set(memory(2)) == {"ours", "foreign", "free"}
    assert set(memory(7)) == {"unknown", "free"}
    assert sum(memory(2).values()) == sum(memory(7).values()) == 80 << 30


def test_a_gpu_without_a_child_is_told_of_as_nobody_s(show: Showcase) -> None:
    spare = replace(show.look().children[0].gpus[0], uuid="GPU-spare", index=99, name="spare")
    found = page(show, replace(show.look(), others=(spare,)))
    assert found['ollamad_gpu_info{gpu="99",uuid="GPU-spare",name="spare",child=""}'] == "1"
    assert found['ollamad_gpu_up{gpu="99",uuid="GPU-spare"}'] == "1"


def test_rounds_over_the_stores_are_counted_with_what_they_brought(show: Showcase) -> None:
    assert "ollamad_sync_last_success_age_seconds" not in page(show)
    sync = show.tallies.sync
    sync.round_over(good=False)
    sync.round_over(good=True)
    sync.brought({"linked": 3, "copied": 1}, 700)
    found = page(show)
    assert found['ollamad_sync_rounds_total{outcome="done"}'] == "1"
    assert found['ollamad_sync_rounds_total{outcome="failed"}'] == "1"
    assert found['ollamad_sync_blobs_total{way="linked"}'] == "3"
    assert found['ollamad_sync_blobs_total{way="reflinked"}'] == "0"
    assert found["ollamad_sync_copied_bytes_total"] == "700"
    assert "ollamad_sync_last_success_age_seconds" in found


def test_what_is_not_known_has_no_sample(show: Showcase) -> None:
    snapshot = show.look()
    (first, *_) = snapshot.children
    blind = replace(
        first.gpus[0],
        memory_used_bytes=None,
        memory_free_bytes=None,
        utilization_percent=None,
        temperature_c=None,
        power_w=None,
        throttled=None,
        sampled_at_s=None,
    )
    found = page(
        show, Snapshot(snapshot.taken_at_s, (msgspec.structs.replace(first, gpus=(blind,), residents_at_s=None),))
    )
    assert [name.split("{")[0] for name in found if "gpu=" in name] == [
        "ollamad_gpu_info",
        "ollamad_gpu_memory_total_bytes",
        "ollamad_gpu_quarantined",
        "ollamad_gpu_up",
    ]
    assert not any(name.startswith("ollamad_child_models_age_seconds") for name in found)


def test_resident_models_past_the_bound_are_counted_together(show: Showcase) -> None:
    snapshot = show.look()
    strangers = tuple(Resident(name, 10, size, None) for name, size in (("x", 5), ("y", 7), ("z", None)))
    found = page(show, Snapshot(1.0, (msgspec.structs.replace(snapshot.children[0], residents=strangers),)))
    vram = {name: value for name, value in found.items() if name.startswith("ollamad_child_model_vram_bytes")}
    assert vram == {f'ollamad_child_model_vram_bytes{{child="gpu0",model="{OTHER}"}}': "12"}


def test_a_name_that_means_harm_is_escaped(show: Showcase) -> None:
    show.tallies.meet(HOSTILE)
    found = page(show)
    (info,) = (name for name in found if name.startswith('ollamad_gpu_info{gpu="5"'))
    assert "\n" not in info
    assert '\\"\\\\\\n{x=\\"y\\"}' in info


def test_buckets_are_cumulated_up_to_all() -> None:
    histogram = Histogram((0.1, 1.0))
    for value in (0.05, 0.5, 0.5, 30.0):
        histogram.observe(value)
    made = Exposition()
    made.histogram("x_seconds", "X.", [({"model": "m"}, histogram)])
    assert made.text() == (
        "# HELP x_seconds X.\n# TYPE x_seconds histogram\n"
        'x_seconds_bucket{model="m",le="0.1"} 1\nx_seconds_bucket{model="m",le="1"} 3\n'
        'x_seconds_bucket{model="m",le="+Inf"} 4\nx_seconds_sum{model="m"} 31.05\nx_seconds_count{model="m"} 4\n'
    )


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(0, 1 << 62) | st.booleans())
def test_a_number_reads_back_as_itself(value: float) -> None:
    made = Exposition()
    made.gauge("x", "X.", [(NO_LABELS, value)])
    (sample,) = [line for line in made.text().splitlines() if not line.startswith("#")]
    assert float(sample.split(" ")[1]) == float(value)


@given(st.text())
def test_a_label_never_ends_its_line_or_its_quotes(value: str) -> None:
    made = Exposition()
    made.gauge("x", "X.", [({"name": value}, 1)])
    body = made.text().split("\n", 2)[2]
    assert body.endswith('"} 1\n')
    inside = body[len('x{name="') : -len('"} 1\n')]
    assert "\n" not in inside
    unescaped = re.sub(r"\\(.)", lambda found: "\n" if found[1] == "n" else found[1], inside)
    assert unescaped == value
