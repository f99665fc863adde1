"""Stores that come apart in every way, and how a plan makes them equal again."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamad.store.inventory import Entry, Inventory
from ollamad.store.layout import Manifest
from ollamad.store.memory import Held, Memory
from ollamad.store.plan import (
    NS,
    Member,
    Plan,
    Remove,
    Role,
    Rules,
    Spread,
    keys_of,
    plan,
    remembered,
    removal,
    trusted,
)

RULES = Rules("newest", settle_s=5.0, now_s=1_000.0)
KEYS = ("h/n/a/t", "h/n/b/t", "h/n/c/t")


def entry(digest: str, modified_s: float = 1.0, fault: str | None = None, path: str = KEYS[0]) -> Entry:
    return Entry(path, int(modified_s * NS), Manifest(digest, ((digest, 1),)), fault)


def member(
    store: str,
    has: Entry | None = None,
    held: str | None = None,
    *,
    since_s: float = 0.0,
    deleted_s: float | None = None,
    role: Role = Role.FULL,
) -> Member:
    """A store that has and remembers one model, and another that it always had."""
    other = entry("other", path=KEYS[1])
    models = {KEYS[1]: other, **({KEYS[0]: has} if has else {})}
    memory = Memory(
        {KEYS[1]: Held("other", 0.0), **({KEYS[0]: Held(held, since_s)} if held else {})},
        {} if deleted_s is None else {KEYS[0]: deleted_s},
    )
    return Member(store, Inventory(models, empty=False), memory, role)


def decided(*members: Member, rules: Rules = RULES) -> Plan:
    return plan(KEYS[0], members, rules)


def spreads(found: Plan) -> list[tuple[str, str]]:
    assert all(isinstance(action, Spread) for action in found.actions)
    return [(action.source, action.target) for action in found.actions if isinstance(action, Spread)]


def removals(found: Plan) -> list[str]:
    assert all(isinstance(action, Remove) for action in found.actions)
    return [action.target for action in found.actions]


def test_what_one_store_has_and_the_others_never_had_is_given_to_them() -> None:
    found = decided(member("a"), member("b", entry("new")), member("c"))
    assert spreads(found) == [("b", "a"), ("b", "c")]
    assert (found.digest, found.notes) == ("new", ())


def test_what_all_have_needs_nothing() -> None:
    assert decided(member("a", entry("x"), "x"), member("b", entry("x"), "x")).actions == ()


def test_what_one_store_deleted_is_taken_from_the_others() -> None:
    found = decided(member("a", None, "x"), member("b", entry("x"), "x"), member("c", entry("x"), "x"))
    assert (removals(found), found.deleted) == (["b", "c"], True)


def test_a_change_beats_a_deletion() -> None:
    found = decided(member("a", None, "x"), member("b", entry("y"), "x"))
    assert (spreads(found), found.digest) == ([("b", "a")], "y")


def test_a_change_beats_what_was_only_kept_however_new_that_is() -> None:
    found = decided(member("a", entry("x", 900.0), "x"), member("b", entry("y", 1.0), "x"))
    assert (spreads(found), found.notes) == ([("b", "a")], ())


@pytest.mark.parametrize(("rule", "winner"), [("newest", "c"), ("primary", "a")])
def test_of_two_changes_the_stated_rule_chooses_and_says_so(rule: Literal["newest", "primary"], winner: str) -> None:
    found = decided(
        member("a", entry("y", 10.0), "x"),
        member("b", entry("x", 5.0), "x"),
        member("c", entry("z", 20.0), "x"),
        rules=replace(RULES, conflicts=rule),
    )
    assert {source for source, _ in spreads(found)} == {winner}
    assert {target for _, target in spreads(found)} == {"a", "b", "c"} - {winner}
    (note,) = found.notes
    assert f"that of {winner}" in note


def test_a_store_that_missed_an_update_takes_it_and_that_is_no_conflict() -> None:
    found = decided(
        member("a", entry("old", 50.0), "old", since_s=1.0),
        member("b", entry("new", 40.0), "new", since_s=2.0),
        rules=replace(RULES, conflicts="primary"),
    )
    assert (spreads(found), found.notes) == ([("b", "a")], ())


def test_a_store_that_was_away_can_t_bring_back_what_was_deleted() -> None:
    found = decided(member("a", deleted_s=100.0), member("away", entry("x"), "x", since_s=50.0))
    assert (removals(found), found.deleted) == (["away"], True)


def test_what_was_pulled_again_since_is_safe_from_an_old_deletion() -> None:
    found = decided(member("a", deleted_s=100.0), member("b", entry("x"), "x", since_s=150.0))
    assert (spreads(found), found.revived) == ([("b", "a")], True)
    again = decided(member("a", deleted_s=100.0), member("b", entry("x"), None))
    assert (spreads(again), again.revived) == ([("b", "a")], True)


def test_what_can_t_be_run_is_not_passed_on_but_replaced() -> None:
    broken = entry("x", fault="lacks the blob 123")
    found = decided(member("a", broken, "x"), member("b", entry("x"), "x"))
    assert spreads(found) == [("b", "a")]
    assert found.notes == (f"{KEYS[0]} can't be run from a: it lacks the blob 123",)


def test_what_no_store_can_run_is_told_and_left_as_it_is() -> None:
    broken = entry("x", fault="lacks the blob 123")
    found = decided(member("a", broken, "x"), member("b", None, None))
    assert (found.actions, found.digest, len(found.notes)) == ((), None, 1)


def test_a_manifest_that_is_being_written_is_waited_for() -> None:
    half = Entry(KEYS[0], modified_ns=998 * NS, manifest=None, fault="is no manifest")
    assert decided(member("a", half, "x"), member("b", entry("x"), "x")).waiting
    later = decided(member("a", half, "x"), member("b", entry("x"), "x"), rules=replace(RULES, now_s=1_004.0))
    assert (later.waiting, spreads(later)) == (False, [("b", "a")])


def test_a_store_out_of_use_gives_and_follows_but_takes_nothing() -> None:
    source = member("s", entry("x"), None, role=Role.SOURCE)
    assert spreads(decided(member("a"), source)) == [("s", "a")]
    assert decided(member("a", entry("x"), "x"), member("s", role=Role.SOURCE)).actions == ()
    assert removals(decided(member("a", None, "x"), member("s", entry("x"), "x", role=Role.SOURCE))) == ["s"]


def test_a_follower_loses_what_is_deleted_and_keeps_what_others_put_there() -> None:
    follower = member("s", entry("x"), "x", role=Role.FOLLOWER)
    assert removals(decided(member("a", None, "x"), follower)) == ["s"]
    strange = member("s", entry("y"), "x", role=Role.FOLLOWER)
    assert removals(decided(member("a", None, "x"), strange)) == []
    assert decided(member("a"), strange).actions == ()


def test_what_somebody_asked_to_delete_goes_everywhere_changed_or_not() -> None:
    members = [member("a", entry("new"), None), member("b", entry("x"), "x"), member("c")]
    assert removals(removal(KEYS[0], members)) == ["a", "b"]


def test_a_store_that_lost_everything_has_deleted_nothing() -> None:
    memory = Memory({"a": Held("x", 0.0), "b": Held("y", 0.0)}, {"c": 1.0})
    assert trusted(memory, Inventory(empty=True)) == Memory({}, {"c": 1.0})
    assert trusted(memory, Inventory(empty=False)) is memory
    one = Memory({"a": Held("x", 0.0)})
    assert trusted(one, Inventory(empty=True)) is one


# What the stores do on disk, in memory: laws over histories.


@dataclass
class Stores:
    """Some stores, what happens to them, and rounds over those that are not away."""

    names: tuple[str, ...]
    clock_s: float = 100.0
    models: dict[str, dict[str, Entry]] = field(default_factory=dict)
    memories: dict[str, Memory] = field(default_factory=dict)
    away: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.models = {name: {} for name in self.names}
        self.memories = {name: Memory() for name in self.names}

    def tick(self) -> float:
        self.clock_s += 10.0
        return self.clock_s

    def pull(self, store: str, key: str, digest: str) -> None:
        self.models[store][key] = entry(digest, self.tick(), path=key)

    def delete(self, store: str, key: str) -> None:
        self.models[store].pop(key, None)

    def members(self) -> list[Member]:
        found = []
        for name in self.names:
            if name not in self.away:
                inventory = Inventory(dict(self.models[name]), empty=not self.models[name])
                self.memories[name] = trusted(self.memories[name], inventory)
                found.append(Member(name, inventory, self.memories[name]))
        return found

    def round(self) -> list[Plan]:
        members = self.members()
        now_s = self.tick()
        plans = [plan(key, members, replace(RULES, now_s=now_s)) for key in sorted(keys_of(members))]
        for found in plans:
            for action in found.actions:
                match action:
                    case Spread(key=key, target=target, entry=what):
                        self.models[target][key] = what
                    case Remove(key=key, target=target):
                        del self.models[target][key]
            for each in members:
                self.memories[each.store] = remembered(found, each, self.memories[each.store], now_s)
        return plans

    def contents(self, store: str) -> dict[str, str | None]:
        return {key: what.manifest.digest if what.manifest else None for key, what in self.models[store].items()}


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["pull", "delete", "away", "back", "round"]),
        st.sampled_from(["s1", "s2", "s3"]),
        st.sampled_from(KEYS),
        st.sampled_from(["v1", "v2", "v3"]),
    ),
    max_size=30,
)


def lived(events: list[tuple[str, str, str, str]]) -> Stores:
    stores = Stores(("s1", "s2", "s3"))
    for what, store, key, digest in events:
        match what:
            case "pull":
                stores.pull(store, key, digest)
            case "delete":
                stores.delete(store, key)
            case "away":
                stores.away.add(store)
            case "back":
                stores.away.discard(store)
            case _:
                stores.round()
    stores.away.clear()
    return stores


@given(EVENTS)
def test_after_a_round_all_stores_are_equal_whatever_went_before(events: list[tuple[str, str, str, str]]) -> None:
    stores = lived(events)
    stores.round()
    assert stores.contents("s1") == stores.contents("s2") == stores.contents("s3")


@given(EVENTS)
def test_a_second_round_finds_nothing_to_do(events: list[tuple[str, str, str, str]]) -> None:
    stores = lived(events)
    stores.round()
    assert [(found.actions, found.notes, found.deleted) for found in stores.round()] == [((), (), False)] * len(
        stores.contents("s1")
    )


@given(EVENTS)
def test_a_round_makes_nothing_up(events: list[tuple[str, str, str, str]]) -> None:
    stores = lived(events)
    before = {item for name in stores.names for item in stores.contents(name).items()}
    stores.round()
    assert set(stores.contents("s1").items()) <= before


@given(EVENTS, st.sampled_from(["s1", "s2", "s3"]), st.sampled_from(KEYS))
def test_what_one_store_deletes_of_what_all_had_is_gone_and_stays_gone(
    events: list[tuple[str, str, str, str]], store: str, key: str
) -> None:
    stores = lived(events)
    stores.pull("s1", "h/n/kept/t", "v1")  # so that it is not the loss of everything
    stores.round()
    had = key in stores.contents("s1")
    stores.delete(store, key)
    stores.round()
    stores.round()
    assert not had or all(key not in stores.contents(name) for name in stores.names)


@given(EVENTS, st.sampled_from(["s1", "s2", "s3"]), st.sampled_from(KEYS))
def test_a_store_that_was_away_during_a_deletion_and_a_new_pull_has_the_new_one(
    events: list[tuple[str, str, str, str]], store: str, key: str
) -> None:
    stores = lived(events)
    stores.pull("s1", "h/n/kept/t", "v1")
    stores.pull("s2", key, "old")
    stores.round()
    stores.away.add(store)
    present = next(name for name in stores.names if name != store)
    stores.delete(present, key)
    stores.round()
    stores.pull(present, key, "old")
    stores.round()
    stores.away.clear()
    stores.round()
    assert [stores.contents(name).get(key) for name in stores.names] == ["old"] * 3


@given(EVENTS, st.sampled_from(["s1", "s2", "s3"]), st.sampled_from(KEYS))
def test_the_last_change_of_equal_stores_is_what_all_have(
    events: list[tuple[str, str, str, str]], store: str, key: str
) -> None:
    stores = lived(events)
    stores.round()
    stores.pull(store, key, "fresh")
    stores.round()
    assert {stores.contents(name)[key] for name in stores.names} == {"fresh"}


@given(EVENTS, st.permutations(["s1", "s2", "s3"]), st.sampled_from(KEYS))
def test_an_old_deletion_that_only_an_absent_store_remembers_takes_nothing_when_it_is_back(
    events: list[tuple[str, str, str, str]], order: list[str], key: str
) -> None:
    first, second, third = order
    stores = lived(events)
    stores.pull("s1", "h/n/kept/t", "v1")
    stores.pull("s2", key, "same")
    stores.round()
    stores.away = {first}
    stores.delete(second, key)
    stores.round()
    stores.away = {second}  # with its memory of the deletion
    stores.pull(third, key, "same")
    stores.round()
    stores.away = set()
    stores.round()
    assert [stores.contents(name).get(key) for name in stores.names] == ["same"] * 3
