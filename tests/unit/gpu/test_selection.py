from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ollamad.gpu.model import Gpu, Inventory
from ollamad.gpu.selection import Selection, Selector, Wanted, select

H100, A100 = "NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-40GB"


def gpu(index: int, uuid: str | None = None, name: str = H100) -> Gpu:
    return Gpu(index, uuid or f"GPU-{index}aaa-{index}", name, 80 << 30)


def machine(*gpus: Gpu) -> Inventory:
    return Inventory(gpus, "570.124.06")


FOUR = machine(gpu(0), gpu(1), gpu(2, name=A100), gpu(3, name=A100))


def ids(selection: Selection) -> list[str]:
    return [pinned.id for pinned in selection.pinned]


def quiet(selection: Selection) -> bool:
    return not selection.warnings and not selection.problems


def test_without_a_word_every_gpu_is_a_child_of_its_own() -> None:
    selection = select(FOUR, Wanted())
    assert ids(selection) == ["gpu0", "gpu1", "gpu2", "gpu3"]
    assert [pinned.gpus for pinned in selection.pinned] == [(one,) for one in FOUR.gpus]
    assert quiet(selection)


def test_a_machine_without_a_gpu_has_no_child_and_nothing_to_say() -> None:
    assert select(machine(), Wanted()) == Selection((), (), ())


def test_an_index_a_uuid_the_beginning_of_one_and_a_pattern_all_select_whatever_their_letter_case() -> None:
    selectors: tuple[Selector, ...] = (0, "gpu-1AAA-1", "GPU-2a", "*a100*")
    selection = select(FOUR, Wanted(include=selectors))
    assert ids(selection) == ["gpu0", "gpu1", "gpu2", "gpu3"]
    assert quiet(selection)


def test_a_pattern_fits_the_whole_name_so_that_a_part_of_it_needs_stars() -> None:
    assert ids(select(FOUR, Wanted(include=("A100",)))) == []
    assert ids(select(FOUR, Wanted(include=(A100,)))) == ["gpu2", "gpu3"]


def test_exclude_wins_over_include() -> None:
    selection = select(FOUR, Wanted(include=("*H100*", 2), exclude=("*A100*", "GPU-0aaa")))
    assert ids(selection) == ["gpu1"]
    assert quiet(selection)


def test_a_group_is_one_child_by_index_order_and_its_gpus_are_no_children_of_their_own() -> None:
    selection = select(FOUR, Wanted(groups=((3, "GPU-1aaa"),)))
    assert ids(selection) == ["gpu0", "gpu1+3", "gpu2"]
    assert selection.pinned[1].gpus == (FOUR.gpus[1], FOUR.gpus[3])
    assert quiet(selection)


def test_a_group_may_be_a_pattern_and_needs_no_include() -> None:
    selection = select(FOUR, Wanted(include=(0,), groups=(("*A100*",),)))
    assert ids(selection) == ["gpu0", "gpu2+3"]
    assert quiet(selection)


def test_a_gpu_that_a_group_names_twice_is_in_it_once() -> None:
    selection = select(FOUR, Wanted(include=(), groups=((2, "GPU-2aaa", 3),)))
    assert ids(selection) == ["gpu2+3"]
    assert quiet(selection)


def test_a_selector_that_names_nothing_is_told_with_what_is_there_and_the_rest_goes_on() -> None:
    selection = select(machine(gpu(0), gpu(2)), Wanted(include=(0, 1, 2), exclude=("*T4*",)))
    assert ids(selection) == ["gpu0", "gpu2"]
    there = f"it has 0 ({H100}, GPU-0aaa-0), 2 ({H100}, GPU-2aaa-2)"
    assert selection.warnings == (
        f"gpus.include[1] = 1 names no GPU of this machine; {there}",
        f'gpus.exclude[0] = "*T4*" names no GPU of this machine; {there}',
    )
    assert selection.problems == ()


def test_a_selector_on_a_machine_without_a_gpu_says_that_it_has_none() -> None:
    selection = select(machine(), Wanted(include=("GPU-1",)))
    assert selection.warnings == ('gpus.include[0] = "GPU-1" names no GPU of this machine; it has none',)


def test_a_group_that_lacks_a_gpu_gets_no_child_and_those_that_are_there_count_as_if_it_were_not_written() -> None:
    lacking = machine(gpu(0), gpu(2))
    selection = select(lacking, Wanted(groups=((2, 3),)))
    assert ids(selection) == ["gpu0", "gpu2"]
    assert selection.warnings[1] == "gpus.groups[0] lacks a GPU, and gets no child: its models would not fit on fewer"
    assert selection.problems == ()
    assert ids(select(lacking, Wanted(include=(0,), groups=((2, 3),)))) == ["gpu0"]


def test_a_group_without_any_gpu_is_a_warning() -> None:
    selection = select(machine(gpu(0)), Wanted(groups=((2, 3), ())))
    assert ids(selection) == ["gpu0"]
    assert selection.warnings[2:] == (
        "gpus.groups[0] has no GPU, and gets no child",
        "gpus.groups[1] has no GPU, and gets no child",
    )
    assert selection.problems == ()


def test_a_gpu_of_two_groups_is_a_problem_and_in_no_child() -> None:
    selection = select(FOUR, Wanted(groups=((0, 1), ("GPU-1",))))
    assert selection.problems == ("GPU 1 (GPU-1aaa-1) may be in only one of gpus.groups[0] and gpus.groups[1]",)
    assert ids(selection) == ["gpu0", "gpu2", "gpu3"]


def test_a_gpu_of_a_group_that_is_excluded_is_a_problem() -> None:
    selection = select(FOUR, Wanted(exclude=(1,), groups=((0, 1),)))
    assert selection.problems == ("GPU 1 (GPU-1aaa-1) may be in only one of gpus.groups[0] and gpus.exclude",)
    assert ids(selection) == ["gpu0", "gpu2", "gpu3"]


def test_the_beginning_of_several_uuids_is_a_problem_that_names_them() -> None:
    twins = machine(gpu(0, "GPU-ab1"), gpu(1, "GPU-ab2"), gpu(2, "GPU-cd"))
    selection = select(twins, Wanted(include=("GPU-AB", "GPU-c")))
    assert selection.problems == ('gpus.include[0] = "GPU-AB" is the beginning of several UUIDs: GPU-ab1, GPU-ab2',)
    assert ids(selection) == ["gpu2"]


def test_gpus_that_may_have_been_meant_to_be_excluded_are_in_no_child() -> None:
    twins = machine(gpu(0, "GPU-ab1"), gpu(1, "GPU-ab2"), gpu(2, "GPU-cd"))
    selection = select(twins, Wanted(exclude=("GPU-ab",)))
    assert len(selection.problems) == 1
    assert ids(selection) == ["gpu2"]


def test_a_whole_uuid_is_not_ambiguous_although_another_begins_with_it() -> None:
    selection = select(machine(gpu(0, "GPU-ab"), gpu(1, "GPU-ab2")), Wanted(include=("GPU-AB",)))
    assert ids(selection) == ["gpu0"]
    assert quiet(selection)


machines = st.lists(st.integers(0, 7), unique=True, max_size=6).map(
    lambda indexes: machine(
        *(gpu(index, f"GPU-{index % 3}{index}", A100 if index % 2 else H100) for index in sorted(indexes))
    )
)
selectors: st.SearchStrategy[tuple[Selector, ...]] = st.lists(
    st.integers(0, 8)
    | st.integers(0, 8).map(lambda index: f"GPU-{index % 3}{index}")
    | st.sampled_from(["GPU-", "GPU-1", "GPU-9", "*A100*", "*h100*", "*", "T4"]),
    max_size=3,
).map(tuple)
anything_wanted = st.builds(
    Wanted, include=st.just("all") | selectors, exclude=selectors, groups=st.lists(selectors, max_size=3).map(tuple)
)


def named(inventory: Inventory, by: tuple[Selector, ...]) -> set[Gpu]:
    """Each selector alone as `include`: the examples above say what that is."""
    return {one for selector in by for pinned in select(inventory, Wanted((selector,))).pinned for one in pinned.gpus}


@given(machines, anything_wanted)
def test_no_gpu_is_in_two_children_and_every_child_has_one_of_this_machine(inventory: Inventory, want: Wanted) -> None:
    selection = select(inventory, want)
    used = [one for pinned in selection.pinned for one in pinned.gpus]
    assert len(used) == len(set(used))
    assert set(used) <= set(inventory.gpus)
    assert all(pinned.gpus for pinned in selection.pinned)
    assert len({pinned.id for pinned in selection.pinned}) == len(selection.pinned)


@given(machines, anything_wanted)
def test_children_and_the_gpus_of_each_are_ordered_by_index(inventory: Inventory, want: Wanted) -> None:
    selection = select(inventory, want)
    firsts = [pinned.gpus[0].index for pinned in selection.pinned]
    assert firsts == sorted(firsts)
    for pinned in selection.pinned:
        indexes = [one.index for one in pinned.gpus]
        assert indexes == sorted(indexes)
        assert pinned.id == "gpu" + "+".join(map(str, indexes))


@given(machines, anything_wanted)
def test_an_excluded_gpu_is_in_no_child(inventory: Inventory, want: Wanted) -> None:
    used = {one for pinned in select(inventory, want).pinned for one in pinned.gpus}
    assert not used & named(inventory, want.exclude)


@given(machines, anything_wanted)
def test_without_a_problem_every_gpu_that_is_included_and_not_excluded_is_in_a_child(
    inventory: Inventory, want: Wanted
) -> None:
    selection = select(inventory, want)
    if selection.problems:
        return
    used = {one for pinned in selection.pinned for one in pinned.gpus}
    included = set(inventory.gpus) if want.include == "all" else named(inventory, want.include)
    assert included - named(inventory, want.exclude) <= used
    in_groups = {one for group in want.groups for one in named(inventory, group)}
    assert used <= included | in_groups


@given(machines, anything_wanted)
def test_without_a_warning_or_problem_every_group_is_a_child(inventory: Inventory, want: Wanted) -> None:
    selection = select(inventory, want)
    if quiet(selection):
        children = [set(pinned.gpus) for pinned in selection.pinned]
        assert all(named(inventory, group) in children for group in want.groups)
