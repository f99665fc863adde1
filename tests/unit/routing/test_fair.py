from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamad.routing.decide import Priority, Request
from ollamad.routing.fair import OWING_MAX, FairQueue, Ticket
from tests.support.scene import RUN


def of(client: str, priority: Priority = Priority.NORMAL) -> Request:
    return replace(RUN, client=client, priority=priority)


def served(queue: FairQueue, count: int) -> list[str]:
    found = []
    for _ in range(count):
        ticket = queue.head()
        assert ticket is not None
        queue.remove(ticket, served=True)
        found.append(ticket.request.client)
    return found


def test_one_client_is_served_in_the_order_it_asked() -> None:
    queue = FairQueue()
    tickets = [queue.put(of("a"), float(index)) for index in range(5)]
    assert list(queue.in_order()) == tickets


def test_a_newcomer_goes_before_the_rest_of_a_long_line_of_one_client() -> None:
    queue = FairQueue()
    for _ in range(200):
        queue.put(of("greedy"), 0.0)
    served(queue, 10)
    queue.put(of("modest"), 1.0)
    assert "modest" in served(queue, 2)


def test_a_higher_priority_has_a_larger_share_and_a_lower_one_still_some() -> None:
    queue = FairQueue()
    for _ in range(40):
        for priority in Priority:
            queue.put(of(priority.name, priority), 0.0)
    shares = Counter(served(queue, 42))
    assert shares["HIGH"] > 2 * shares["NORMAL"] > 4 * shares["LOW"] > 0


def test_who_leaves_unserved_owes_nothing() -> None:
    queue = FairQueue()
    queue.put(of("b"), 0.0)
    for ticket in [queue.put(of("a"), 0.0) for _ in range(50)]:
        queue.remove(ticket, served=False)
    queue.put(of("b"), 0.0)
    queue.put(of("a"), 0.0)
    assert served(queue, 3) == ["b", "a", "b"]


def test_the_ages_of_all_in_line_are_known() -> None:
    queue = FairQueue()
    queue.put(of("a"), 10.0)
    leaver = queue.put(of("b"), 12.0)
    assert queue.waited_s(20.0) == 18.0
    queue.remove(leaver, served=False)
    queue.remove(leaver, served=False)
    assert (queue.waited_s(20.0), len(queue)) == (10.0, 1)
    (last,) = queue.in_order()
    queue.remove(last, served=True)
    assert queue.waited_s(20.0) == 0.0
    queue.put(of("a"), 19.5)
    assert queue.waited_s(20.0) == 0.5


def test_a_client_that_comes_back_begins_where_it_ended_and_not_before() -> None:
    """Half a share each: a low priority has paid for four requests with its first."""
    queue = FairQueue()
    queue.put(of("low", Priority.LOW), 0.0)
    for _ in range(5):
        queue.put(of("normal"), 0.0)
    assert served(queue, 1) == ["low"]
    queue.put(of("low", Priority.LOW), 0.0)
    assert served(queue, 6) == ["normal"] * 4 + ["normal", "low"]
    assert (queue._ends, queue._owing, queue._counts) == ({}, {}, {})


def test_who_comes_late_has_saved_nothing_up() -> None:
    queue = FairQueue()
    for _ in range(40):
        queue.put(of("early"), 0.0)
    served(queue, 20)
    for _ in range(20):
        queue.put(of("late"), 1.0)
    assert Counter(served(queue, 20)) == {"early": 10, "late": 10}


def test_clients_that_make_up_names_do_not_fill_the_memory_of_a_line_that_never_ends() -> None:
    queue = FairQueue()
    queue.put(of("stays", Priority.LOW), 0.0)
    for number in range(3 * OWING_MAX):
        ticket = queue.put(of(str(number)), 0.0)
        queue.remove(ticket, served=True)
    assert len(queue._owing) == OWING_MAX
    for client in (str(3 * OWING_MAX - 1), "new"):
        queue.put(of(client), 0.0)
    assert served(queue, 3) == ["stays", "new", str(3 * OWING_MAX - 1)], "the last of them still owe"


def test_tickets_of_one_tag_go_in_the_order_they_came() -> None:
    queue = FairQueue()
    tickets = [queue.put(of(f"client {number}"), 0.0) for number in range(9)]
    assert list(queue.in_order()) == tickets
    assert served(queue, 9) == [ticket.request.client for ticket in tickets]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.integers(0, 9)), max_size=200))
def test_what_has_left_is_kept_only_while_it_is_the_smaller_part(history: list[tuple[str, bool, int]]) -> None:
    queue = FairQueue()
    line: list[Ticket] = []
    for client, comes, index in history:
        if comes or not line:
            line.append(queue.put(of(client), 0.0))
        else:
            queue.remove(line.pop(index % len(line)), served=False)
        assert len(queue) == len(line) == len(list(queue.in_order()))
        assert set(queue.in_order()) == set(line)
        assert len(queue._heap) <= 2 * len(line) + 8
        assert queue._counts == Counter(ticket.request.client for ticket in line)
        assert queue._ends.keys() == queue._counts.keys()
        assert queue._owing == {}, "who leaves unserved owes nothing"


@pytest.mark.parametrize(("came", "left"), [(30, 11), (31, 12)])
def test_a_line_is_tidied_only_once_what_has_left_is_more_than_what_is_left_and_eight(came: int, left: int) -> None:
    queue = FairQueue()
    tickets = [queue.put(of("a"), 0.0) for _ in range(came)]
    for ticket in tickets[left:]:
        queue.remove(ticket, served=False)
    assert (len(queue), len(queue._heap)) == (left, came)
    queue.remove(tickets[1], served=False)
    assert (len(queue), len(queue._heap)) == (left - 1, left - 1)


ASKS = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(Priority), st.booleans()), max_size=60)


@given(ASKS, st.lists(st.integers(0, 59), max_size=30))
def test_nobody_is_lost_served_twice_or_served_after_leaving(
    asks: list[tuple[str, Priority, bool]], leavers: list[int]
) -> None:
    queue = FairQueue()
    tickets = [queue.put(of(client, priority), 0.0) for client, priority, _ in asks]
    gone = {index for index in leavers if index < len(tickets)}
    for index in gone:
        queue.remove(tickets[index], served=False)
    stayed = [ticket for index, ticket in enumerate(tickets) if index not in gone]
    found = []
    while (head := queue.head()) is not None:
        queue.remove(head, served=True)
        found.append(head)
    assert sorted(found, key=id) == sorted(stayed, key=id)


@given(st.integers(2, 6), st.integers(1, 30))
def test_clients_who_all_wait_are_served_alike(clients: int, rounds: int) -> None:
    queue = FairQueue()
    for client in range(clients):
        for _ in range(rounds + 1):
            queue.put(of(str(client)), 0.0)
    counts = Counter(served(queue, clients * rounds))
    assert max(counts.values()) - min(counts.values()) <= 1
