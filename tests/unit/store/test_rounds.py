"""Rounds over real directories: what is linked, what is copied, what a fault leaves."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from ollamad.errors import StoreError
from ollamad.store import ways as store_ways
from ollamad.store.files import place_blob, write_manifest
from ollamad.store.plan import Role, Rules
from ollamad.store.rounds import Rounds, Settled, Store
from ollamad.store.ways import Effort, Way
from tests.support.stores import digest_of, disk_bytes, files, key, manifest_path, put_blob, put_model

NOW_S = 1_800_000_000.0
"""After every time that these tests give a file by itself."""


class World:
    """Some stores in a folder, and rounds over them."""

    def __init__(self, folder: Path, *names: str) -> None:
        self.root = {name: folder / name for name in names}
        self.now_s = NOW_S
        self.rounds = self.again()

    def again(self, **roles: Role) -> Rounds:
        """As after a restart."""
        stores = [Store(name, root, roles.get(name, Role.FULL)) for name, root in self.root.items()]
        self.rounds = Rounds(stores, Rules("newest", settle_s=5.0, now_s=0.0), forget_s=90 * 86_400.0)
        self.rounds.clear()
        return self.rounds

    def round(self) -> list[Settled]:
        self.now_s += 60.0
        survey = self.rounds.survey(self.now_s)
        return [self.rounds.settle(each, Effort(), self.now_s) for each in survey.unequal]

    def contents(self) -> list[dict[str, bytes]]:
        return [dict(files(root)) for root in self.root.values()]

    def delete(self, store: str, name: str) -> None:
        manifest_path(self.root[store], name).unlink()


@pytest.fixture
def three(tmp_path: Path) -> World:
    return World(tmp_path, "a", "b", "c")


@pytest.fixture
def no_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """As between two disks: no hard link, no shared extent."""

    def refuse(*_args: object, **_options: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr("fcntl.ioctl", refuse)


def problems(settled: list[Settled]) -> str:
    return "\n".join(problem for each in settled for problem in each.problems)


def test_a_model_comes_to_every_store_by_links_with_its_time_and_a_manifest_of_its_own(three: World) -> None:
    put_model(three.root["b"], "m", b"config", b"weights", modified_s=1_000_000_000.0)
    os.utime(manifest_path(three.root["b"], "m"), ns=(1, 1_000_000_000_123_456_789))
    (settled,) = three.round()
    assert (settled.everywhere, settled.ways[Way.LINKED]) == (True, 4)
    assert three.contents()[0] == three.contents()[1] == three.contents()[2]
    blob = f"blobs/sha256-{digest_of(b'weights')}"
    assert len({(root / blob).stat().st_ino for root in three.root.values()}) == 1
    manifests = [manifest_path(root, "m") for root in three.root.values()]
    assert len({path.stat().st_ino for path in manifests}) == 3
    assert {path.stat().st_mtime_ns for path in manifests} == {1_000_000_000_123_456_789}
    assert three.round() == []


def test_ten_gib_come_to_eight_stores_in_no_time_and_take_no_byte(tmp_path: Path) -> None:
    world = World(tmp_path, *(f"gpu{number}" for number in range(8)))
    first = world.root["gpu0"]
    put_model(first, "big", b"config")
    big = first / "blobs" / f"sha256-{'0' * 64}"
    with big.open("wb") as file:
        file.truncate(10 * 1024**3)  # sparse: links look at no byte of it
    manifest = manifest_path(first, "big")
    found = json.loads(manifest.read_bytes())
    found["layers"] = [{"digest": f"sha256:{'0' * 64}", "size": 10 * 1024**3}]
    manifest.write_bytes(json.dumps(found).encode())
    os.utime(manifest, (1.0, 1.0))
    before, free_bytes = disk_bytes(first), shutil.disk_usage(tmp_path).free
    (settled,) = world.round()
    assert settled.everywhere
    assert disk_bytes(*world.root.values()) == before
    assert free_bytes - shutil.disk_usage(tmp_path).free < 64 * 1024**2
    assert settled.ways == {Way.LINKED: 14}


@pytest.mark.usefixtures("no_links")
def test_between_two_disks_blobs_are_copied_and_held_against_their_digest(three: World) -> None:
    put_model(three.root["a"], "m", b"config", b"weights")
    (settled,) = three.round()
    assert (settled.everywhere, settled.ways[Way.COPIED]) == (True, 4)
    assert three.contents()[0] == three.contents()[1] == three.contents()[2]


@pytest.mark.usefixtures("no_links")
def test_a_corrupt_blob_is_never_copied_and_the_other_store_stays_as_it_was(three: World) -> None:
    put_model(three.root["a"], "m", b"config", b"weights")
    (three.root["a"] / "blobs" / f"sha256-{digest_of(b'weights')}").write_bytes(b"WEIGHTS")
    settled = three.round()
    assert "is corrupt: its content is not what its name says" in problems(settled)
    assert not [name for name in files(three.root["b"]) if name.startswith("manifests")]


def test_a_blob_of_the_wrong_size_is_replaced_from_a_store_that_has_it_whole(three: World) -> None:
    put_model(three.root["a"], "m", b"config", b"weights")
    three.round()
    bad = three.root["b"] / "blobs" / f"sha256-{digest_of(b'weights')}"
    bad.unlink()
    bad.write_bytes(b"wei")
    (settled,) = three.round()
    assert "can't be run from b" in settled.plan.notes[0]
    assert settled.everywhere
    assert bad.read_bytes() == b"weights"


def test_a_model_that_no_store_can_run_is_told_and_nothing_is_changed(three: World) -> None:
    put_model(three.root["a"], "m", b"config", b"weights")
    (three.root["a"] / "blobs" / f"sha256-{digest_of(b'weights')}").unlink()
    before = files(three.root["a"])
    (settled,) = three.round()
    assert "lacks the blob" in settled.plan.notes[0]
    assert (files(three.root["a"]), files(three.root["b"])) == (before, {})


@pytest.mark.parametrize("raw", [b"", b"not json", b"{}", b'{"layers": [{"digest": "sha256:zz", "size": 1}]}'])
def test_a_manifest_that_is_none_is_replaced_where_a_sibling_has_one(three: World, raw: bytes) -> None:
    put_model(three.root["a"], "m", b"config", b"weights")
    three.round()
    path = manifest_path(three.root["c"], "m")
    path.write_bytes(raw)
    os.utime(path, (1.0, 1.0))
    (settled,) = three.round()
    assert settled.everywhere
    assert files(three.root["c"]) == files(three.root["a"])


def test_what_one_child_deletes_is_deleted_and_its_bytes_are_free(three: World) -> None:
    put_model(three.root["a"], "m", b"config", b"weights")
    put_model(three.root["a"], "kept", b"config", b"others")
    three.round()
    three.delete("b", "m")
    (settled,) = three.round()
    assert settled.nowhere
    for name in ("a", "c"):
        found = files(three.root[name])
        assert not manifest_path(three.root[name], "m").parent.exists()
        assert f"blobs/sha256-{digest_of(b'weights')}" not in found
        assert f"blobs/sha256-{digest_of(b'config')}" in found  # another model needs it
    assert three.round() == []


def test_a_wiped_store_is_filled_again_and_nothing_is_deleted(three: World) -> None:
    for name in ("one", "two"):
        put_model(three.root["a"], name, b"config", name.encode())
    three.round()
    shutil.rmtree(three.root["c"])
    three.round()
    assert three.contents()[0] == three.contents()[1] == three.contents()[2]
    assert len(three.contents()[0]) == 5


def test_a_store_that_lost_its_models_but_not_its_memory_is_filled_again_too(three: World) -> None:
    for name in ("one", "two", "three"):
        put_model(three.root["a"], name, b"config", name.encode())
    three.round()
    shutil.rmtree(three.root["c"] / "manifests")
    survey = three.rounds.survey(three.now_s + 1)
    three.rounds.settle(survey.unequal[0], Effort(), three.now_s + 1)  # and then it crashes: the rest comes later
    three.again()
    three.round()
    assert three.contents()[0] == three.contents()[1] == three.contents()[2]
    assert len(three.contents()[0]) == 7


def test_memory_lost_everywhere_costs_no_model(three: World) -> None:
    put_model(three.root["a"], "m", b"config")
    three.round()
    for root in three.root.values():
        (root / ".ollamad" / "held.json").write_bytes(b"{")
    three.round()
    assert three.contents()[0] == three.contents()[2] != {}


def test_names_that_differ_in_case_are_one_model(three: World) -> None:
    put_model(three.root["a"], "Mixed", b"config")
    three.round()
    put_model(three.root["b"], "Mixed", b"newer", modified_s=NOW_S)
    (settled,) = three.round()
    assert settled.everywhere
    assert [name for name in files(three.root["c"]) if name.startswith("manifests")] == [
        "manifests/registry.ollama.ai/library/Mixed/latest"
    ]


def test_a_full_disk_leaves_the_store_as_it_was_and_the_next_round_mends_it(
    three: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_model(three.root["a"], "m", b"config", b"weights")
    links = os.link

    def full(source: Path, target: Path) -> None:
        if "/c/" in str(target):
            raise OSError(errno.ENOSPC, "No space left on device")
        links(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", full)
        (settled,) = three.round()
        assert settled.problems == (
            f"c: the disk of {three.root['c']} is full: free some space, `ollamactl prune` may help",
        )
        assert not settled.everywhere
    assert files(three.root["c"]) == {}
    assert files(three.root["b"]) == files(three.root["a"])
    (mended,) = three.round()
    assert mended.everywhere
    assert files(three.root["c"]) == files(three.root["a"])


@pytest.mark.usefixtures("no_links")
def test_a_copy_that_would_fill_the_disk_is_not_begun(three: World, monkeypatch: pytest.MonkeyPatch) -> None:
    put_model(three.root["a"], "m", b"config", b"weights")
    monkeypatch.setattr(store_ways, "FREE_BYTES", 1 << 60)
    assert "its disk has" in problems(three.round())
    assert files(three.root["b"]) == {}


CRASHES = ("link", "replace", "fsync")


@pytest.mark.parametrize("call", CRASHES)
@pytest.mark.parametrize("nth", range(6))
def test_cut_off_at_any_step_every_store_is_valid_and_the_next_round_ends_it(
    tmp_path: Path, call: str, nth: int
) -> None:
    """A process of its own does a round and is killed at its nth link, rename or sync."""
    world = World(tmp_path, "a", "b", "c")
    put_model(world.root["a"], "m", b"config", b"weights")
    put_model(world.root["a"], "n", b"config", b"others")
    script = f"""
        import os, pathlib, signal
        from pathlib import Path
        from tests.unit.store.test_rounds import World
        left = {nth}
        owner, name = (Path, "replace") if {call!r} == "replace" else (os, {call!r})
        real = getattr(owner, name)
        def dying(*args, **options):
            global left
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
            return real(*args, **options)
        setattr(owner, name, dying)
        World(Path({str(tmp_path)!r}), "a", "b", "c").round()
    """
    died = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False, cwd=Path.cwd())
    assert died.returncode == -9
    for root in world.root.values():
        for path in (root / "manifests").rglob("latest"):
            for layer in json.loads(path.read_bytes())["layers"]:
                assert (root / "blobs" / layer["digest"].replace(":", "-")).stat().st_size == layer["size"]
    world.again()
    world.round()
    assert world.contents()[0] == world.contents()[1] == world.contents()[2]
    assert not [path for root in world.root.values() for path in (root / ".ollamad").glob("tmp-*")]


def as_nobody(function: Callable[[], None]) -> None:
    """Run it as a user who owns nothing here; where we are nobody special ourselves, as ourselves."""
    if os.geteuid() != 0:
        function()
        return
    os.seteuid(65_534)
    try:
        function()
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("mode", [0o555, 0o500])
def test_a_store_of_another_user_or_read_only_is_a_clear_error_and_no_store_is_changed(
    tmp_path: Path, mode: int
) -> None:
    tmp_path.chmod(0o777)
    for parent in tmp_path.parents:
        if parent.stat().st_uid == os.geteuid() and parent.stat().st_mode & 0o055 != 0o055:
            parent.chmod(0o755)
    source, target = tmp_path / "a", tmp_path / "b"
    put_model(source, "m", b"config", b"weights")
    for folder in (target, target / "blobs", target / "manifests"):
        folder.mkdir()
        folder.chmod(mode)
    found: list[Settled] = []
    try:
        as_nobody(lambda: found.append(World(tmp_path, "a", "b").rounds.settle(key("m"), Effort(), NOW_S)))
        (settled,) = found
        assert f"b: {target} can't be" in settled.problems[-1]
        assert f"uid {os.geteuid() or 65_534}" in settled.problems[-1] or "can't be read" in settled.problems[-1]
        assert not settled.everywhere
    finally:
        for folder in (target, target / "blobs", target / "manifests"):
            folder.chmod(0o755)
    assert files(target) == {}


def test_reading_every_byte_finds_a_corrupt_blob_of_the_right_size_and_mends_it(three: World) -> None:
    put_model(three.root["a"], "m", b"config", b"weights")
    three.round()
    bad = three.root["b"] / "blobs" / f"sha256-{digest_of(b'weights')}"
    bad.unlink()
    bad.write_bytes(b"WEIGHTS")
    assert three.round() == []  # its size is right: a look can't tell
    assert three.rounds.corrupt(Effort()) == ()
    assert bad.read_bytes() == b"weights"


def test_a_corrupt_blob_that_no_store_has_whole_is_told(three: World) -> None:
    put_model(three.root["a"], "m", b"config", b"weights")
    three.round()
    (three.root["a"] / "blobs" / f"sha256-{digest_of(b'weights')}").write_bytes(b"WEIGHTS")  # linked: all have it
    (one, two, three_) = three.rounds.corrupt(Effort())
    assert "is corrupt, and no store has a sound one" in one
    assert (two[0], three_[0]) == ("b", "c")


def test_a_store_before_the_switch_gives_its_models_and_then_only_follows(tmp_path: Path) -> None:
    world = World(tmp_path, "a", "b", "before")
    put_model(world.root["before"], "m", b"config", b"weights")
    put_model(world.root["before"], "n", b"config", b"others")
    before = files(world.root["before"])
    world.again(before=Role.SOURCE)
    world.round()
    assert files(world.root["a"]) == files(world.root["b"]) == before
    world.again(before=Role.FOLLOWER)
    put_model(world.root["a"], "new", b"config", b"newer")
    world.delete("a", "m")
    world.round()
    assert not manifest_path(world.root["before"], "m").exists()
    assert not manifest_path(world.root["before"], "new").exists()
    assert manifest_path(world.root["before"], "n").exists()


def test_what_was_uploaded_to_one_store_is_brought_to_the_one_that_needs_it(three: World) -> None:
    digest = put_blob(three.root["b"], b"upload")
    three.rounds.survey(NOW_S)
    three.rounds.bring_blobs("c", [digest, "0" * 64], Effort())
    assert files(three.root["c"]) == {f"blobs/sha256-{digest}": b"upload"}


@pytest.mark.usefixtures("no_links")
def test_work_that_is_stopped_leaves_nothing_half_made(three: World) -> None:
    put_model(three.root["a"], "m", b"config", b"weights")
    effort = Effort()
    effort.stopped.set()
    settled = three.rounds.settle(key("m"), effort, NOW_S)
    assert "stopped" in settled.problems[0]
    assert files(three.root["b"]) == {}
    assert list((three.root["b"] / ".ollamad").glob("tmp-*")) == []


def test_a_blob_that_is_there_is_left_alone(tmp_path: Path) -> None:
    digest = put_blob(tmp_path / "a", b"same")
    put_blob(tmp_path / "b", b"same")
    assert place_blob(tmp_path / "a", tmp_path / "b", digest, 4, Effort()) is Way.THERE


def test_a_blob_that_is_gone_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "b" / "blobs").mkdir(parents=True)
    with pytest.raises(StoreError, match="No such file"):
        place_blob(tmp_path / "a", tmp_path / "b", "0" * 64, 4, Effort())


def test_a_manifest_is_never_written_where_a_scan_could_see_it_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "blobs").mkdir()
    seen: list[str] = []
    replace = Path.replace

    def looking(self: Path, target: Path) -> Path:
        seen.extend(str(path.relative_to(tmp_path)) for path in (tmp_path / "manifests").rglob("*"))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", looking)
    write_manifest(tmp_path, "h/n/m/t", b"{}", 1)
    assert "manifests/h/n/m/t" not in seen
    assert (tmp_path / "manifests/h/n/m/t").read_bytes() == b"{}"
