from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pytest

from ollamad.errors import StartError
from ollamad.systemd.presence import Presence, Standing

NOBODY = Standing(children=4, ready=0, streams=0)
READY = Standing(children=4, ready=3, streams=12)


@dataclass
class Manager:
    """Hears what it is told."""

    watchdog_s: float | None = None
    heard: list[dict[str, str]] = field(default_factory=list)

    def send(self, state: Mapping[str, str]) -> None:
        self.heard.append(dict(state))

    def take(self) -> dict[str, str]:
        told = {key: value for state in self.heard for key, value in state.items()}
        self.heard.clear()
        return told


@pytest.fixture
def manager() -> Manager:
    return Manager()


@pytest.fixture
def presence(manager: Manager) -> Presence:
    return Presence(manager, ready_wait_s=30.0)


def running(presence: Presence, manager: Manager) -> None:
    presence.tell(READY, 0.0)
    manager.take()


def test_ready_is_said_once_when_the_first_child_is(presence: Presence, manager: Manager) -> None:
    presence.tell(NOBODY, 100.0)
    assert "READY" not in manager.take()
    presence.tell(READY, 101.0)
    assert manager.take() == {"READY": "1", "STATUS": "3 of 4 children ready, 12 streams"}
    presence.tell(NOBODY, 102.0)
    presence.tell(READY, 103.0)
    assert "READY" not in manager.take()


def test_ready_is_said_without_a_child_when_it_takes_too_long(presence: Presence, manager: Manager) -> None:
    presence.tell(NOBODY, 100.0)
    presence.tell(NOBODY, 129.9)
    assert manager.take()["EXTEND_TIMEOUT_USEC"] == "15000000"
    presence.tell(NOBODY, 130.0)
    assert manager.take()["READY"] == "1"


def test_the_status_is_told_when_it_changes_and_not_again(presence: Presence, manager: Manager) -> None:
    running(presence, manager)
    presence.tell(READY, 1.0)
    assert manager.heard == []
    presence.tell(replace(READY, streams=1, waiting=2), 2.0)
    assert manager.take() == {"STATUS": "3 of 4 children ready, 1 stream, 2 waiting"}


def test_while_it_stops_it_asks_for_more_time_with_each_beat(presence: Presence, manager: Manager) -> None:
    running(presence, manager)
    presence.stops()
    assert manager.take() == {"STOPPING": "1", "EXTEND_TIMEOUT_USEC": "15000000"}
    presence.tell(READY, 1.0)
    assert manager.take() == {
        "EXTEND_TIMEOUT_USEC": "15000000",
        "STATUS": "stopping: 3 of 4 children ready, 12 streams",
    }
    presence.tell(READY, 2.0)
    assert manager.take() == {"EXTEND_TIMEOUT_USEC": "15000000"}


def test_the_watchdog_is_fed_only_while_all_moves() -> None:
    manager = Manager(watchdog_s=2.0)
    presence = Presence(manager, ready_wait_s=30.0)
    presence.tell(READY, 0.0)
    assert manager.take()["WATCHDOG"] == "1"
    assert presence.beat_s == 0.5
    presence.tell(replace(READY, still=("gpu0",)), 1.0)
    assert "WATCHDOG" not in manager.take()
    presence.tell(READY, 2.0)
    assert manager.take() == {"WATCHDOG": "1"}


def test_a_reload_is_over_when_the_configuration_is_in_force(presence: Presence, manager: Manager) -> None:
    running(presence, manager)
    with presence.reloading():
        began = manager.take()
        assert began["RELOADING"] == "1"
        assert int(began["MONOTONIC_USEC"]) > 0
        presence.tell(READY, 1.0)
        assert manager.take() == {"STATUS": "reloading: 3 of 4 children ready, 12 streams"}
        presence.reloaded()
        assert manager.take() == {"READY": "1"}
    assert manager.heard == []


def test_a_refused_reload_ends_too_and_shows_until_one_succeeds(presence: Presence, manager: Manager) -> None:
    running(presence, manager)
    with pytest.raises(StartError), presence.reloading():
        raise StartError("no such program")
    assert manager.take()["READY"] == "1"
    presence.tell(READY, 1.0)
    assert "the new configuration was refused" in manager.take()["STATUS"]
    with presence.reloading():
        presence.reloaded()
    presence.tell(READY, 2.0)
    assert manager.take()["STATUS"] == "3 of 4 children ready, 12 streams"


def test_a_second_reload_does_not_end_the_first(presence: Presence, manager: Manager) -> None:
    running(presence, manager)
    with presence.reloading():
        manager.take()
        with pytest.raises(StartError), presence.reloading():
            raise StartError("another is under way")
        assert manager.heard == []
    assert manager.take() == {"READY": "1"}


def test_a_reload_before_it_is_ready_says_nothing(presence: Presence, manager: Manager) -> None:
    presence.tell(NOBODY, 0.0)
    manager.take()
    with presence.reloading():
        presence.reloaded()
    assert manager.heard == []


def test_once_it_stops_no_reload_makes_it_ready(presence: Presence, manager: Manager) -> None:
    running(presence, manager)
    with presence.reloading():
        presence.stops()
        manager.take()
    assert manager.heard == []
