"""A tape: the last of what is said, and all that comes."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from ollamad.fleet.tape import Missed, Tape


async def all_of(tape: Tape[int]) -> list[int | Missed]:
    return [item async for item in tape.read()]


@given(st.integers(0, 5), st.lists(st.integers(0, 8), max_size=8))
def test_a_reader_sees_each_item_once_in_order_or_is_told_how_many_it_missed(kept: int, bursts: list[int]) -> None:
    async def scene() -> list[int | Missed]:
        tape = Tape[int](kept)
        async with asyncio.TaskGroup() as tasks:
            reader = tasks.create_task(all_of(tape))
            number = 0
            for burst in bursts:
                await asyncio.sleep(0)
                for _ in range(burst):
                    tape.append(number)
                    number += 1
            tape.close()
        assert tape.kept == tuple(range(number))[max(0, number - kept) :]
        assert tape.said == number
        return reader.result()

    seen = asyncio.run(scene())
    at = 0
    for item in seen:
        if isinstance(item, Missed):
            assert item.count > 0
            at += item.count
        else:
            assert item == at
            at += 1
    assert at == sum(bursts)


async def test_who_comes_late_reads_what_is_left() -> None:
    tape = Tape[int](2)
    for number in range(5):
        tape.append(number)
    tape.close()
    assert await all_of(tape) == [Missed(3), 3, 4]


async def test_waiting_ends_with_the_next_word_with_the_end_or_with_patience() -> None:
    tape = Tape[int](2)
    assert not await tape.changed(0.01)
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(tape.changed(10.0))
        await asyncio.sleep(0)
        tape.append(1)
        assert await waiting
    tape.close()
    assert await tape.changed(0.0)
