"""What must move for the watchdog to be fed."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
import pytest

from ollamad.config import Config
from ollamad.config.schema import Supervision
from ollamad.fleet.bell import Bell
from ollamad.fleet.known import Known
from ollamad.fleet.standing import Standings
from ollamad.routing.snapshot import Snapshot
from ollamad.supervision.state import Event, Tick


@dataclass
class Driver:
    """A child's driver that answers at once, or does not."""

    known: Known = field(default_factory=lambda: Known(Bell()))
    turned_s: float = 0.0
    mail: list[Event] = field(default_factory=list)

    def tell(self, event: Event) -> None:
        self.mail.append(event)

    def turn(self, now_s: float) -> None:
        self.mail.clear()
        self.turned_s = now_s


@dataclass
class Looked:
    children: dict[str, Driver]
    telemetry_turned_s: float | None = None
    config: Config = field(default_factory=Config)

    def snapshot(self) -> Snapshot:
        return Snapshot(0.0, ())


@pytest.fixture
def fleet() -> Looked:
    return Looked({"gpu0": Driver(), "gpu1": Driver()})


def test_a_driver_that_answers_moves(fleet: Looked) -> None:
    standings = Standings(fleet)
    for now_s in range(100, 200):
        assert standings.look(now_s).still == ()
        for driver in fleet.children.values():
            assert driver.mail == [Tick()]
            driver.turn(now_s)


def test_a_driver_that_answers_no_more_stands_still_and_is_not_buried_in_mail(fleet: Looked) -> None:
    standings = Standings(fleet)
    found = {}
    for now_s in range(100, 120):
        found[now_s] = standings.look(now_s).still
        fleet.children["gpu0"].turn(now_s)
    assert found[110] == ()
    assert found[111] == ("gpu1",)
    assert len(fleet.children["gpu1"].mail) == 1
    fleet.children["gpu1"].turn(120)
    assert standings.look(121).still == ()


def test_a_child_that_is_no_longer_looked_at_stands_still(fleet: Looked) -> None:
    known = fleet.children["gpu0"].known
    supervision = fleet.config.supervision
    patience_s = supervision.idle_interval_s + 4 * supervision.probe_timeout_s + 10
    known.looked_s = 1000.0
    assert Standings(fleet).look(1000 + patience_s).still == ()
    assert Standings(fleet).look(1001 + patience_s).still == ("watch of gpu0",)
    known.looked_s = None  # it has no process: nobody has to look
    assert Standings(fleet).look(1001 + patience_s).still == ()


def test_telemetry_may_take_as_long_as_a_driver_that_hangs_and_no_longer(fleet: Looked) -> None:
    gpus = fleet.config.gpus
    patience_s = gpus.sample_interval_s + 3 * gpus.call_timeout_s + 10
    fleet.telemetry_turned_s = 1000.0
    assert Standings(fleet).look(1000 + patience_s).still == ()
    assert Standings(fleet).look(1001 + patience_s).still == ("telemetry",)


@pytest.mark.parametrize("key", ["resident_interval_s", "probe_interval_s", "idle_interval_s"])
def test_a_child_that_is_to_be_looked_at_seldom_does_not_stand_still(fleet: Looked, key: str) -> None:
    fleet.config = Config(supervision=msgspec.structs.replace(Supervision(), **{key: 300.0}))
    fleet.children["gpu0"].known.looked_s = 1000.0
    assert Standings(fleet).look(1301.0).still == ()
