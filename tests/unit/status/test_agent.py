from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamad.routing.snapshot import ChildView, Snapshot
from ollamad.status.agent import AgentProtocol, agent_line, headroom_percent
from ollamad.supervision.state import Phase, Want


def child(name: str, phase: Phase = Phase.READY, in_flight: int = 0, slots: int = 4) -> ChildView:
    return ChildView(name, Want.UP, phase, trusted=True, in_flight=in_flight, slots=slots)


def told(*children: ChildView, waiting: int = 0, stopping: bool = False) -> bytes:
    return agent_line(Snapshot(1.0, children, waiting=waiting, stopping=stopping))


def test_an_idle_host_has_all_its_weight_and_is_up_again_whatever_it_said_before() -> None:
    assert told(child("gpu0"), child("gpu1")) == b"ready up 100%\n"


def test_taken_slots_cost_weight_and_so_do_children_that_are_down() -> None:
    assert told(child("gpu0", in_flight=2), child("gpu1")) == b"ready up 75%\n"
    assert told(child("gpu0", Phase.FAILED), child("gpu1")) == b"ready up 50%\n"


@pytest.mark.parametrize(
    ("in_flight", "percent"), [(0, 100), (1, 100), (3, 100), (4, 75), (7, 75), (8, 50), (12, 25), (15, 25), (16, 1)]
)
def test_a_weight_changes_by_quarters_as_each_change_moves_models_between_hosts(in_flight: int, percent: int) -> None:
    assert told(child("gpu0", in_flight=in_flight, slots=16)) == f"ready up {percent}%\n".encode()


def test_a_queue_takes_all_headroom_and_a_full_host_is_not_drained() -> None:
    assert told(child("gpu0", in_flight=1), waiting=7) == b"ready up 1%\n"
    assert told(child("gpu0", in_flight=9)) == b"ready up 1%\n"


def test_a_host_without_a_ready_child_is_down_and_says_why() -> None:
    assert told(child("gpu0", Phase.STARTING)) == b"down#no child is ready\n"
    assert told() == b"down#no child is ready\n"


def test_a_host_that_stops_is_drained_so_that_its_streams_end_in_peace() -> None:
    assert told(child("gpu0"), stopping=True) == b"drain\n"


@given(
    st.lists(st.builds(child, st.just("gpu0"), st.sampled_from(Phase), st.integers(0, 99), st.integers(1, 64))),
    st.integers(0, 99),
)
def test_headroom_is_a_percentage_and_more_requests_never_raise_it(children: list[ChildView], waiting: int) -> None:
    now = headroom_percent(Snapshot(1.0, tuple(children), waiting=waiting))
    more = headroom_percent(Snapshot(1.0, tuple(children), waiting=waiting + 1))
    assert 0 <= more <= now <= 100


async def test_whoever_connects_reads_one_line_and_the_end() -> None:
    snapshot = Snapshot(1.0, (child("gpu0"),))
    server = await asyncio.get_running_loop().create_server(lambda: AgentProtocol(lambda: snapshot), "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        assert await reader.read() == b"ready up 100%\n"
        writer.close()
        await writer.wait_closed()
