"""How a request ends when its key is revoked: by us and by nobody else's cancellation."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from ollamad.access.holder import Holder, KeyRevoked, Usage, ended_by, until_revoked
from ollamad.access.key import ENTROPY_BYTES, Grant, mint


def holder() -> Holder:
    key_id, _, key = mint(Grant(name="chat"), bytes(ENTROPY_BYTES), datetime.now(UTC))
    return Holder(key_id, key, Usage())


async def test_a_revocation_cancels_the_block_and_leaves_the_task_as_it_was() -> None:
    one = holder()
    asyncio.get_running_loop().call_soon(one.revoke)
    with pytest.raises(KeyRevoked, match="has been revoked"), until_revoked(one):
        await asyncio.Event().wait()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0)


async def test_another_cancellation_is_left_alone_also_when_both_come() -> None:
    for also_revoked in (False, True):
        one, begun = holder(), asyncio.Event()

        async def serve(one: Holder = one, begun: asyncio.Event = begun) -> None:
            with until_revoked(one):
                begun.set()
                await asyncio.Event().wait()

        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(serve())
            await begun.wait()
            task.cancel()
            if also_revoked:
                one.revoke()
        assert task.cancelled()


async def test_the_innermost_says_how_it_ends_and_only_while_it_lasts() -> None:
    one, told = holder(), list[str]()
    with until_revoked(one):
        with ended_by(one, lambda: told.append("by a record")):
            assert one.revoke()
            assert not one.revoke(), "once"
        await asyncio.sleep(0)
    assert told == ["by a record"]
    late = holder()
    with ended_by(late, lambda: told.append("late")):
        pass
    assert not late.revoke()


async def test_without_a_key_there_is_nothing_to_revoke() -> None:
    with until_revoked(None), ended_by(None, lambda: None):
        await asyncio.sleep(0)
