from __future__ import annotations

import pytest

from ollamad.fleet.residence import SETTLE_S, Residence
from ollamad.routing.snapshot import Resident

M = Resident("m", 1, 1, None)


def test_what_we_loaded_is_there_before_ps_says_so_and_in_the_shape_we_loaded_it() -> None:
    residence = Residence()
    residence.loaded("a", 1, "m", '{"num_ctx":8192}')
    (found,) = residence.of("a", 1, ())
    assert (found.model, found.shape) == ("m", '{"num_ctx":8192}')
    (found,) = residence.of("a", 1, (M,))
    assert (found.size_bytes, found.shape) == (1, '{"num_ctx":8192}')


def test_what_we_unloaded_is_gone_before_ps_says_so() -> None:
    residence = Residence()
    residence.unloaded("a", 1, "m")
    assert residence.of("a", 1, (M,)) == ()
    residence.loaded("a", 1, "m", "")
    assert len(residence.of("a", 1, (M,))) == 1


def test_a_new_life_has_nothing_of_the_old_one() -> None:
    residence = Residence()
    residence.loaded("a", 1, "m", "x")
    assert residence.of("a", 2, ()) == ()
    assert residence.of("a", 2, (M,))[0].shape == ""


def test_since_when_a_model_is_there_is_remembered_while_it_stays() -> None:
    residence = Residence()
    (first,) = residence.of("a", 1, (M,))
    (later,) = residence.of("a", 1, (M,))
    assert first.since_s == later.since_s
    assert residence.of("a", 1, ()) == ()
    (again,) = residence.of("a", 1, (M,))
    assert again.since_s is not None
    assert first.since_s is not None
    assert again.since_s > first.since_s


def test_what_nothing_has_changed_is_not_worked_out_again(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    monkeypatch.setattr("ollamad.fleet.residence.time.monotonic", lambda: now_s)
    residence, said = Residence(), (M,)
    assert residence.of("a", 1, said) is residence.of("a", 1, said)
    residence.unloaded("a", 1, "m")
    assert residence.of("a", 1, said) == ()
    now_s += SETTLE_S
    assert len(residence.of("a", 1, said)) == 1, "it is there after all: what we did goes before that for a while only"
