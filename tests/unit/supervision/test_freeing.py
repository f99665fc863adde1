from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamad.gpu.model import Sample
from ollamad.supervision.freeing import Freed, Holding, vram_freed
from ollamad.supervision.pinning import GIB, GpuProcess

HELD = Holding(
    pids=frozenset({100, 101}), since_s=10.0, vram_bytes=8 * GIB, used_bytes={"A": 20 * GIB}, was_listed=True
)
UNLISTED = replace(HELD, was_listed=False)


def sample(
    used: int | None = 20 * GIB, *pids: int, at_s: float = 11.0, uuid: str = "A", readable: bool = True
) -> Sample:
    processes = tuple(GpuProcess(pid, None) for pid in pids) if readable else None
    return Sample(uuid, at_s, memory_used_bytes=used, processes=processes)


def test_while_a_dead_process_is_listed_its_memory_is_not_free() -> None:
    assert vram_freed(HELD, [sample(20 * GIB, 101)]) is Freed.NOT_YET
    assert vram_freed(UNLISTED, [sample(0, 101)]) is Freed.NOT_YET


def test_once_it_has_left_the_list_that_showed_it_its_memory_is_free_whatever_others_use() -> None:
    assert vram_freed(HELD, [sample(20 * GIB, 999)]) is Freed.YES


@pytest.mark.parametrize("used", [12 * GIB, 14 * GIB])
def test_where_no_list_showed_it_three_quarters_of_its_memory_must_be_back(used: int) -> None:
    assert vram_freed(UNLISTED, [sample(used)]) is Freed.YES
    assert vram_freed(UNLISTED, [sample(used, readable=False)]) is Freed.YES
    assert vram_freed(UNLISTED, [sample(14 * GIB + 1)]) is Freed.NOT_YET


def test_a_list_that_can_no_longer_be_read_leaves_it_to_memory() -> None:
    assert vram_freed(HELD, [sample(20 * GIB, readable=False)]) is Freed.NOT_YET
    assert vram_freed(HELD, [sample(12 * GIB, readable=False)]) is Freed.YES


def test_a_sample_from_before_says_nothing() -> None:
    assert vram_freed(HELD, [sample(0, at_s=9.9)]) is Freed.NOT_YET
    assert vram_freed(HELD, []) is Freed.NOT_YET
    assert vram_freed(HELD, [sample(0, at_s=10.0)]) is Freed.YES


def test_all_its_gpus_count_and_no_others() -> None:
    wide = replace(HELD, used_bytes={"A": 20 * GIB, "B": 20 * GIB})
    assert vram_freed(wide, [sample(12 * GIB)]) is Freed.NOT_YET
    assert vram_freed(wide, [sample(12 * GIB), sample(20 * GIB, 101, uuid="B")]) is Freed.NOT_YET
    assert vram_freed(wide, [sample(12 * GIB), sample(20 * GIB, uuid="B")]) is Freed.YES
    assert vram_freed(HELD, [sample(12 * GIB), sample(20 * GIB, 101, uuid="B")]) is Freed.YES


def test_where_nothing_will_tell_it_is_not_waited_for() -> None:
    assert vram_freed(replace(UNLISTED, vram_bytes=None), [sample()]) is Freed.UNKNOWN
    assert vram_freed(replace(UNLISTED, used_bytes={"A": None}), [sample()]) is Freed.UNKNOWN
    assert vram_freed(UNLISTED, [sample(None)]) is Freed.UNKNOWN


def test_who_held_nothing_has_nothing_to_free() -> None:
    assert vram_freed(replace(UNLISTED, vram_bytes=0), [sample()]) is Freed.YES
    assert vram_freed(replace(UNLISTED, vram_bytes=0), [sample(None)]) is Freed.YES
    assert vram_freed(replace(UNLISTED, vram_bytes=1), [sample(None)]) is Freed.UNKNOWN
    assert vram_freed(replace(HELD, used_bytes={}), []) is Freed.YES


SIZES = st.none() | st.integers(0, 40 * GIB)
SAMPLES = st.lists(
    st.builds(
        lambda uuid, at_s, used, pids: sample(used, *pids, uuid=uuid, at_s=at_s),
        st.sampled_from("AB"),
        st.floats(0.0, 20.0),
        SIZES,
        st.lists(st.integers(99, 102), max_size=3),
    ),
    max_size=3,
)


@given(st.builds(Holding, st.frozensets(st.integers(99, 102)), st.floats(0.0, 20.0), SIZES,
                 st.dictionaries(st.sampled_from("AB"), SIZES), st.booleans()), SAMPLES)  # fmt: skip
def test_it_is_never_free_while_its_latest_sample_shows_it(held: Holding, samples: list[Sample]) -> None:
    latest = {one.uuid: one for one in samples}
    shown = any(
        process.pid in held.pids
        for uuid in held.used_bytes
        if uuid in latest and latest[uuid].taken_at_s >= held.since_s
        for process in latest[uuid].processes or ()
    )
    if shown:
        assert vram_freed(held, list(latest.values())) is Freed.NOT_YET
