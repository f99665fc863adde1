from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamad.routing.prefixes import BLOCK_BYTES, BLOCKS_MAX, RUNNERS_MAX, Prefixes, prefix_of, shared_blocks

RUNNER = ("a", 1, "m")


def text(*parts: tuple[str, int]) -> bytes:
    return b"".join(letter.encode() * BLOCK_BYTES * blocks for letter, blocks in parts)


def test_prompts_share_as_many_blocks_as_they_begin_alike() -> None:
    one, other = prefix_of(text(("s", 3), ("a", 2))), prefix_of(text(("s", 3), ("b", 4)))
    assert (len(one), shared_blocks(one, other)) == (5, 3)


def test_the_same_block_later_in_another_prompt_is_not_the_same() -> None:
    assert shared_blocks(prefix_of(text(("s", 3))), prefix_of(text(("x", 1), ("s", 2)))) == 0


def test_only_so_much_of_a_prompt_is_remembered() -> None:
    assert len(prefix_of(text(("s", BLOCKS_MAX + 50)))) == BLOCKS_MAX


@given(st.binary(max_size=5000), st.binary(max_size=5000))
def test_what_is_added_at_the_end_leaves_the_beginning_as_it_was(one: bytes, more: bytes) -> None:
    assert prefix_of(one + more)[: len(prefix_of(one))] == prefix_of(one)


def test_the_next_turn_of_a_chat_finds_its_slot_and_takes_its_place() -> None:
    prefixes = Prefixes()
    turns = [prefix_of(text(("s", 2), ("a", count))) for count in (2, 4, 6)]
    other = prefix_of(text(("s", 2), ("b", 9)))
    prefixes.sent(RUNNER, other, 2)
    for turn in turns:
        prefixes.sent(RUNNER, turn, 2)
    assert prefixes.held_blocks(*RUNNER, turns[2]) == len(turns[2])
    assert prefixes.held_blocks("b", 1, "m", turns[2]) == 0
    assert prefixes.held_blocks(*RUNNER, ()) == 0


def test_a_full_runner_forgets_the_slot_unused_longest() -> None:
    prefixes = Prefixes()
    prompts = [prefix_of(text((letter, 3))) for letter in "abc"]
    for prompt in prompts:
        prefixes.sent(RUNNER, prompt, 2)
    assert [prefixes.held_blocks(*RUNNER, prompt) for prompt in prompts] == [0, 3, 3]


def test_what_must_not_be_taken_for_alike_has_another_salt() -> None:
    prompt = text(("s", 3))
    assert prefix_of(prompt, 1) == prefix_of(prompt, 1) != prefix_of(prompt) == prefix_of(prompt, 0)
    assert shared_blocks(prefix_of(prompt, 1), prefix_of(prompt, 2)) == 0


def test_a_block_is_whole_or_not_there() -> None:
    for missing, blocks in ((0, 3), (1, 2), (BLOCK_BYTES, 2)):
        assert len(prefix_of(text(("s", 3))[missing:])) == blocks


@pytest.mark.parametrize(("shared", "slots_held"), [(2, 3), (3, 2)])
def test_a_prompt_takes_the_place_of_what_shares_more_than_a_tenth_of_it_and_else_a_free_slot(
    shared: int, slots_held: int
) -> None:
    prefixes, long = Prefixes(), prefix_of(text(("s", 20)))
    for begun in (text(("s", shared), ("x", 2)), text(("o", 4))):
        prefixes.sent(RUNNER, prefix_of(begun), 3)
    prefixes.sent(RUNNER, long, 3)
    assert prefixes.held_blocks(*RUNNER, long) == 20
    assert prefixes.held_blocks(*RUNNER, prefix_of(text(("o", 4)))) == 4
    assert len(prefixes._slots[RUNNER]) == slots_held


def test_an_unloaded_runner_and_the_oldest_of_too_many_are_forgotten() -> None:
    prefixes, prompt = Prefixes(), prefix_of(text(("a", 3)))
    prefixes.sent(RUNNER, prompt, 2)
    prefixes.unloaded(*RUNNER)
    prefixes.unloaded(*RUNNER)
    assert prefixes.held_blocks(*RUNNER, prompt) == 0
    for life in range(RUNNERS_MAX + 1):
        prefixes.sent(("a", life, "m"), prompt, 2)
    assert [prefixes.held_blocks("a", life, "m", prompt) for life in (0, 1, RUNNERS_MAX)] == [0, 3, 3]
