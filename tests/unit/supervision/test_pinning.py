from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamad.routing.snapshot import Resident
from ollamad.supervision.pinning import GIB, GpuProcess, Listed, Pinning, Proof, foreign_bytes, pinning

TREE = frozenset({100, 101})
RUNNER = GpuProcess(101, 4 * GIB)
STRANGER = GpuProcess(999, 2 * GIB)
HIDDEN = GpuProcess(70_000, None, here=False)


def model(size: int | None = 4 * GIB, vram: int | None = 4 * GIB) -> Resident:
    return Resident("m:latest", size, vram, None)


def judge(listed: Listed, *residents: Resident, own: tuple[str, ...] = ("A",)) -> Pinning:
    return pinning(TREE, own, listed, residents)


def test_nothing_is_said_before_a_model_is_loaded() -> None:
    assert judge({"A": (), "B": None}) == Pinning(Proof.NOTHING_LOADED, "no model is loaded")


def test_a_runner_on_its_own_gpu_and_on_no_other_is_proven() -> None:
    found = judge({"A": (RUNNER, STRANGER), "B": (STRANGER,)}, model())
    assert found == Pinning(Proof.PROVEN, "on A, and on no other GPU")


def test_a_wide_childs_runner_need_not_be_on_all_its_gpus() -> None:
    assert judge({"A": (), "B": (RUNNER,)}, model(), own=("A", "B")).proof is Proof.PROVEN
    found = judge({"B": (RUNNER,), "A": (RUNNER,)}, model(), own=("A", "B"))
    assert found == Pinning(Proof.PROVEN, "on A, B, and on no other GPU")


def test_all_wrong_gpus_and_all_lists_that_are_missing_are_named() -> None:
    found = judge({"A": (), "C": (RUNNER,), "B": (RUNNER,)}, model())
    assert found == Pinning(Proof.WRONG_GPU, "a runner is on B, C, which is another's", ("B", "C"))
    found = judge({"A": None, "B": None}, model())
    assert found == Pinning(Proof.UNPROVEN, "the processes on A, B can't be read")


@pytest.mark.parametrize("on_own_too", [False, True])
def test_a_runner_on_anothers_gpu_is_a_fault_that_names_it(*, on_own_too: bool) -> None:
    found = judge({"A": (RUNNER,) if on_own_too else (), "B": (RUNNER,), "C": None}, model())
    assert (found.proof, found.uuids, found.is_fault) == (Proof.WRONG_GPU, ("B",), True)


def test_a_model_without_vram_is_on_the_cpu_whatever_the_lists_say() -> None:
    for listed in ({"A": ()}, {"A": None}, {"A": (RUNNER,)}, {"A": (HIDDEN,)}):
        assert judge(listed, model(vram=0)) == Pinning(Proof.ON_CPU, "4.0 GiB are loaded, none of it in VRAM")


def test_a_model_that_is_partly_in_vram_is_named_so_even_where_the_lists_cant_be_read() -> None:
    for listed in ({"A": None}, {"A": (RUNNER,)}):
        found = judge(listed, model(vram=3 * GIB))
        assert found == Pinning(Proof.PARTLY_ON_CPU, "3.0 of 4.0 GiB are in VRAM, the rest is on the CPU")


def test_one_model_of_two_on_the_cpu_is_partly() -> None:
    assert judge({"A": (RUNNER,)}, model(), model(vram=0)).proof is Proof.PARTLY_ON_CPU
    assert judge({"A": (RUNNER,)}, model(None, None), model(vram=0)).proof is Proof.PARTLY_ON_CPU


def test_a_model_of_which_ps_said_nothing_yet_is_proven_by_the_lists() -> None:
    assert judge({"A": (RUNNER,)}, model(None, None)).proof is Proof.PROVEN
    assert judge({"A": (RUNNER,)}, model(0, 0)).proof is Proof.PROVEN


def test_a_model_of_no_size_says_nothing_of_where_the_others_are() -> None:
    assert judge({"A": (RUNNER,)}, model(0, 0), model(vram=0)).proof is Proof.PARTLY_ON_CPU
    assert judge({"A": (RUNNER,)}, model(1, 0)).proof is Proof.ON_CPU


@pytest.mark.parametrize("missing", ["A", "B"])
def test_a_list_that_cant_be_read_leaves_it_unproven_its_own_or_anothers(missing: str) -> None:
    found = judge({"A": (RUNNER,), "B": ()} | {missing: None}, model())
    assert found == Pinning(Proof.UNPROVEN, f"the processes on {missing} can't be read")


def test_a_gpu_of_its_own_without_any_reading_leaves_it_unproven() -> None:
    assert judge({}, model()).proof is Proof.UNPROVEN


@pytest.mark.parametrize("listed", [(), (HIDDEN,)])
def test_lists_that_show_nobody_of_this_machine_prove_nothing(listed: tuple[GpuProcess, ...]) -> None:
    found = judge({"A": listed}, model())
    assert found == Pinning(Proof.UNPROVEN, "the driver lists no process that is seen here, as in a container")
    assert not found.is_fault


def test_a_runner_that_lists_of_this_machine_do_not_show_is_on_no_gpu() -> None:
    found = judge({"A": (STRANGER,)}, model())
    assert found == Pinning(Proof.ON_CPU, "a model is loaded, but no runner is on a GPU")


def test_a_child_without_a_gpu_belongs_on_the_cpu_and_on_no_gpu() -> None:
    on_cpu = model(vram=0)
    found = judge({"A": (STRANGER,)}, on_cpu, own=())
    assert found == Pinning(Proof.PROVEN, "on the CPU, as it is meant to be")
    assert judge({}, on_cpu, own=()).proof is Proof.PROVEN
    assert judge({"A": None}, on_cpu, own=()).proof is Proof.UNPROVEN
    assert judge({"A": (RUNNER,)}, on_cpu, own=()).uuids == ("A",)


OURS = frozenset({100, 101})
UNSAID = GpuProcess(101, None)


@pytest.mark.parametrize(
    ("processes", "used", "said", "foreign"),
    [
        (None, 9 * GIB, 4 * GIB, None),
        ((RUNNER, STRANGER), 9 * GIB, None, 2 * GIB),
        ((STRANGER, STRANGER), None, None, 4 * GIB),
        ((RUNNER,), 9 * GIB, 4 * GIB, 0),
        ((UNSAID, STRANGER), 9 * GIB, 4 * GIB, 2 * GIB),
        ((RUNNER, HIDDEN), 9 * GIB, 4 * GIB, None),
        ((UNSAID,), 9 * GIB, 4 * GIB, 5 * GIB),
        ((UNSAID,), 3 * GIB, 4 * GIB, 0),
        ((UNSAID,), None, 4 * GIB, None),
        ((UNSAID,), 9 * GIB, None, None),
        ((), 9 * GIB, 0, 9 * GIB),
        ((), 9 * GIB, None, None),
    ],
)
def test_foreign_memory(
    processes: tuple[GpuProcess, ...] | None, used: int | None, said: int | None, foreign: int | None
) -> None:
    assert foreign_bytes(processes, OURS, used, said) == foreign


SIZES = st.none() | st.integers(0, 100 * GIB)
PROCESSES = st.builds(GpuProcess, st.integers(98, 104), SIZES, st.booleans())
LISTS = st.none() | st.lists(PROCESSES, max_size=4).map(tuple)
LISTED = st.dictionaries(st.sampled_from("ABC"), LISTS)
RESIDENTS = st.lists(st.builds(model, SIZES, SIZES), max_size=3)
OWN = st.sets(st.sampled_from("AB")).map(lambda uuids: tuple(sorted(uuids)))


@given(LISTED, RESIDENTS, OWN)
def test_proven_means_seen_on_its_own_gpu_and_nowhere_else(
    listed: Listed, residents: list[Resident], own: tuple[str, ...]
) -> None:
    found = pinning(TREE, own, listed, residents)
    on = {uuid for uuid, processes in listed.items() for one in processes or () if one.pid in TREE}
    if found.proof is Proof.PROVEN:
        assert residents
        assert on <= set(own)
        assert bool(on) == bool(own)
        assert None not in listed.values()
    if residents and on - set(own):
        assert found == pinning(TREE, own, listed, residents[:1])
        assert found.uuids == tuple(sorted(on - set(own)))
    assert bool(found.uuids) == (found.proof is Proof.WRONG_GPU)
    assert found.text


@given(LISTS, st.frozensets(st.integers(98, 104)), SIZES, SIZES)
def test_foreign_memory_is_never_negative_and_never_more_than_is_listed_or_used(
    processes: tuple[GpuProcess, ...] | None, ours: frozenset[int], used: int | None, said: int | None
) -> None:
    foreign = foreign_bytes(processes, ours, used, said)
    if foreign is not None:
        listed = sum(one.used_bytes or 0 for one in processes or () if one.pid not in ours)
        assert 0 <= foreign <= max(listed, used or 0)
