from __future__ import annotations

from pathlib import Path

import msgspec

from ollamad.config.schema import Models
from ollamad.fleet.places import remember_mode, store_of, stores
from ollamad.store.plan import Role

HOME = "/home/x"


def test_one_store_is_everybody_s() -> None:
    models = Models(path="~/models")
    assert store_of(models, "gpu0", HOME) == store_of(models, "gpu1", HOME) == Path("/home/x/models")


def test_stores_of_their_own_lie_where_the_pattern_says() -> None:
    models = Models(path="~/models", store="per-child")
    assert store_of(models, "gpu0", HOME) == Path("/home/x/models/children/gpu0")
    disks = msgspec.structs.replace(models, per_child_path="/disks/{child}/models")
    assert store_of(disks, "gpu1", HOME) == Path("/disks/gpu1/models")


def roles(models: Models) -> dict[str, Role]:
    return {store.id: store.role for store in stores(models, ["a", "b"], HOME)}


def test_a_store_that_was_in_use_gives_until_all_is_brought_over_and_then_follows(tmp_path: Path) -> None:
    shared = Models(path=str(tmp_path))
    own = Models(path=str(tmp_path), store="per-child")
    assert roles(shared) == {"shared": Role.FULL}
    assert roles(own) == {"a": Role.FULL, "b": Role.FULL, "shared": Role.SOURCE}
    remember_mode(own, HOME)
    assert roles(own) == {"a": Role.FULL, "b": Role.FULL, "shared": Role.FOLLOWER}
    (tmp_path / "children" / "a").mkdir(parents=True)
    assert roles(shared) == {"shared": Role.FULL, "a": Role.SOURCE}
    remember_mode(shared, HOME)
    assert roles(shared) == {"shared": Role.FULL}


def test_where_there_is_no_shared_store_there_is_nothing_to_bring_over(tmp_path: Path) -> None:
    own = Models(path=str(tmp_path / "none"), store="per-child", per_child_path=str(tmp_path / "{child}"))
    assert roles(own) == {"a": Role.FULL, "b": Role.FULL}


def test_nothing_is_written_into_a_store_that_was_always_shared(tmp_path: Path) -> None:
    remember_mode(Models(path=str(tmp_path)), HOME)
    assert list(tmp_path.iterdir()) == []
