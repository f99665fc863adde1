"""Downloads that are shared, models that come to every store, and what is seen of it, over children in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec
import pytest
from structlog.testing import capture_logs

from ollamad.config.schema import Models
from ollamad.errors import CapacityError, Refusal, StoreError
from ollamad.fleet.notices import Notices
from ollamad.fleet.pulls import Pull
from ollamad.fleet.synchronizer import Synchronizer
from ollamad.fleet.tallies import SyncTally
from ollamad.ollama.names import Name, parse
from ollamad.ollama.progress import Record
from tests.support.fake_child import FakeFleet, fake_fleet
from tests.support.stores import files, key, manifest_path, put_blob, put_model


def name(text: str) -> Name:
    found = parse(text)
    assert found is not None
    return found


@asynccontextmanager
async def world(folder: Path, **settings: object) -> AsyncIterator[tuple[Synchronizer, FakeFleet]]:
    """A synchronizer at work over the children `a` and `b`, with one store or one each."""
    models = msgspec.structs.replace(
        Models(path=str(folder / "a"), per_child_path=str(folder / "{child}"), reconcile_interval_s=3600.0), **settings
    )
    if models.store == "per-child":
        models = msgspec.structs.replace(models, path=str(folder / "shared"))
    async with fake_fleet(folder / "a", folder / "b") as fleet, aiohttp.ClientSession() as session:
        synchronizer = Synchronizer(models, fleet, lambda: ("a", "b"), session, SyncTally(), Notices())
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(synchronizer.run())
            try:
                async with asyncio.timeout(20):
                    yield synchronizer, fleet
            finally:
                running.cancel()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


async def heard(pull: Pull) -> list[Record]:
    async with aclosing(pull.follow()) as records:
        return [record async for record in records]


def statuses(records: list[Record]) -> list[str]:
    return [record.status or record.error for record in records]


async def test_two_pulls_of_one_model_are_one_download_and_who_is_late_hears_what_was_told(tmp_path: Path) -> None:
    async with world(tmp_path) as (synchronizer, fleet), asyncio.TaskGroup() as tasks:
        child = fleet.children["a"]
        first = tasks.create_task(heard(synchronizer.pull(name("m"), {"insecure": True})))
        await until(lambda: any(pull.completed_bytes == 2 for pull in synchronizer.view().pulls))
        late = tasks.create_task(heard(synchronizer.pull(name("library/M:latest"), {"insecure": True})))
        await until(lambda: synchronizer.view().pulls[0].listeners == 2)
        child.gate.set()
        assert statuses(await late) == ["pulling manifest", "pulling ab", "success"]
        assert (await first)[-1].status == "success"
        assert child.asked == [("/api/pull", {"insecure": True, "model": "m:latest", "stream": True})]
        assert synchronizer.view().pulls == ()


async def test_with_other_options_it_is_another_download_that_waits_its_turn(tmp_path: Path) -> None:
    async with world(tmp_path) as (synchronizer, fleet), asyncio.TaskGroup() as tasks:
        child = fleet.children["a"]
        first = tasks.create_task(heard(synchronizer.pull(name("m"), {})))
        other = tasks.create_task(heard(synchronizer.pull(name("m"), {"insecure": True})))
        await until(lambda: child.asked)
        await until(lambda: len(synchronizer.view().pulls) == 2)
        assert len(child.asked) == 1
        child.gate.set()
        await asyncio.wait({first, other})
        assert len(child.asked) == 2


async def test_a_download_goes_on_when_all_have_left_and_counts_those_who_stay(tmp_path: Path) -> None:
    async with world(tmp_path) as (synchronizer, fleet), asyncio.TaskGroup() as tasks:
        pull = synchronizer.pull(name("m"), {})
        listeners = [tasks.create_task(heard(pull)) for _ in range(2)]
        await until(lambda: pull.listeners == 2)
        listeners[0].cancel()
        await until(lambda: pull.listeners == 1)
        listeners[1].cancel()
        await until(lambda: pull.listeners == 0)
        fleet.children["a"].gate.set()
        await until(lambda: pull.outcome)
        assert isinstance(pull.outcome, Record)
        assert pull.outcome.status == "success"


async def test_only_what_nobody_waits_for_is_given_up(tmp_path: Path) -> None:
    async with world(tmp_path) as (synchronizer, fleet), asyncio.TaskGroup() as tasks:
        pull = synchronizer.pull(name("m"), {})
        listener = tasks.create_task(heard(pull))
        await until(lambda: fleet.children["a"].asked)
        assert synchronizer.give_up(name("m")) is True
        listener.cancel()
        await until(lambda: not pull.listeners)
        assert synchronizer.give_up(name("m")) is False
        await until(lambda: not synchronizer.view().pulls)
        assert isinstance(pull.outcome, Record)
        assert "given up" in pull.outcome.error


async def test_a_child_that_hangs_up_is_distrusted_and_the_download_taken_up_again(tmp_path: Path) -> None:
    async with world(tmp_path) as (synchronizer, fleet):
        fleet.children["a"].hang_ups = 2
        fleet.children["a"].gate.set()
        records = await heard(synchronizer.pull(name("m"), {}))
        assert (records[-1].status, fleet.failures) == ("success", ["a", "a"])


async def test_a_child_that_always_hangs_up_is_told_of_after_so_many_attempts(tmp_path: Path) -> None:
    async with world(tmp_path, pull_attempts_max=3) as (synchronizer, fleet):
        fleet.children["a"].hang_ups = 9
        records = await heard(synchronizer.pull(name("m"), {}))
        assert "broke off" in records[-1].error
        assert len(fleet.failures) == 3


async def test_an_error_or_a_refusal_is_the_child_s_own_and_final(tmp_path: Path) -> None:
    async with world(tmp_path) as (synchronizer, fleet):
        child = fleet.children["a"]
        child.gate.set()
        child.error = "pull model manifest: file does not exist"
        assert statuses(await heard(synchronizer.pull(name("m"), {})))[-1] == child.error
        child.refusal = (400, "invalid model name")
        with pytest.raises(Refusal, match="invalid model name"):
            await heard(synchronizer.pull(name("m"), {}))
        assert len(child.asked) == 2


async def test_one_more_download_than_may_be_is_refused(tmp_path: Path) -> None:
    async with world(tmp_path, pulls_max=1) as (synchronizer, _):
        synchronizer.pull(name("m"), {})
        with pytest.raises(CapacityError, match="1 pulls are under way"):
            synchronizer.pull(name("n"), {})


async def test_a_pull_says_success_when_every_child_has_the_model_and_not_before(tmp_path: Path) -> None:
    async with world(tmp_path, store="per-child") as (synchronizer, fleet):
        fleet.children["a"].gate.set()
        records = await heard(synchronizer.pull(name("m"), {}))
        assert records[-1].status == "success"
        assert dict(files(tmp_path / "a")) == dict(files(tmp_path / "b")) != {}
        assert await synchronizer.where(key("m")) == {"a", "b"}


async def test_a_pull_that_can_t_come_to_every_child_says_where_and_why(tmp_path: Path) -> None:
    async with world(tmp_path, store="per-child") as (synchronizer, fleet):
        await synchronizer.sync()
        (tmp_path / "b" / "blobs").rmdir()
        (tmp_path / "b" / "blobs").write_text("no folder")
        fleet.children["a"].gate.set()
        records = await heard(synchronizer.pull(name("m"), {}))
        assert records[-1].error.startswith(f"m:latest is not on every child: b: {tmp_path}/b")
        assert await synchronizer.lacking("m") == {("b", 1)}
        assert len(fleet.children["a"].asked) == 1


async def test_what_was_pulled_behind_our_back_is_found_when_it_is_asked_for_and_spreads(tmp_path: Path) -> None:
    async with world(tmp_path, store="per-child") as (synchronizer, _):
        await until(lambda: synchronizer.view().sync)
        put_model(tmp_path / "b", "m", b"config", b"weights")
        assert await synchronizer.lacking("m:latest") == {("a", 1)}  # not to be asked for it, yet
        await until(lambda: manifest_path(tmp_path / "a", "m").exists())
        await until(lambda: (sync := synchronizer.view().sync) and sync.spread == 1)
        assert await synchronizer.lacking("m:latest") == frozenset()


async def test_with_one_store_no_child_lacks_anything(tmp_path: Path) -> None:
    put_model(tmp_path / "a", "m", b"config")
    async with world(tmp_path) as (synchronizer, _):
        assert await synchronizer.lacking("m:latest") == frozenset()
        assert await synchronizer.where(key("m")) == {"shared"}
        assert synchronizer.view().sync is None
    assert not (tmp_path / "a" / ".ollamad").exists()


async def test_a_removal_reaches_stores_whose_children_do_not_run_and_tells_where_it_does_not(tmp_path: Path) -> None:
    async with world(tmp_path, store="per-child") as (synchronizer, _):
        for model in ("m", "n"):
            put_model(tmp_path / "a", model, b"config", model.encode())
        await synchronizer.sync()
        assert (await synchronizer.remove(name("m"))).nowhere
        assert not manifest_path(tmp_path / "b", "m").exists()
        manifest_path(tmp_path / "b", "n").unlink()
        manifest_path(tmp_path / "b", "n").mkdir()  # what can't be read as a manifest and can't be unlinked either
        (tmp_path / "b" / "manifests").rename(tmp_path / "b" / "aside")
        (tmp_path / "b" / "manifests").write_text("no folder")
        settled = await synchronizer.remove(name("n"))
        assert not settled.nowhere
        assert settled.problems[0].startswith(f"b: {tmp_path}/b")


async def test_a_prune_lists_what_it_would_take_takes_it_and_never_while_a_pull_runs(tmp_path: Path) -> None:
    async with world(tmp_path) as (synchronizer, fleet), asyncio.TaskGroup() as tasks:
        digest = put_blob(tmp_path / "a", b"left over")
        path = tmp_path / "a" / "blobs" / f"sha256-{digest}"
        pull = tasks.create_task(heard(synchronizer.pull(name("m"), {})))
        await until(lambda: fleet.children["a"].asked)
        with pytest.raises(StoreError, match="under way"):
            await synchronizer.prune(dry_run=True, grace_s=0.0)
        fleet.children["a"].gate.set()
        await pull
        dry = await synchronizer.prune(dry_run=True, grace_s=0.0)
        assert (dry.files, dry.disk_bytes, path.exists()) == ((str(path),), path.stat().st_blocks * 512, True)
        young = await synchronizer.prune(dry_run=False)
        assert (young.files, young.spared) == ((), 1), "too young for the configured grace"
        assert (await synchronizer.prune(dry_run=False, grace_s=0.0)).files == dry.files
        assert not path.exists()
        assert manifest_path(tmp_path / "a", "m").exists()


async def test_no_pull_begins_on_a_disk_that_is_nearly_full_and_one_that_fills_it_says_what_to_do(
    tmp_path: Path,
) -> None:
    async with world(tmp_path, disk_free_min_bytes=2**50) as (synchronizer, fleet):
        (record,) = await heard(synchronizer.pull(name("m"), {}))
        assert "is nearly full" in record.error
        assert fleet.children["a"].asked == []
    async with world(tmp_path, disk_free_min_bytes=0) as (synchronizer, fleet):
        fleet.children["a"].error = "write blobs/x: no space left on device"
        fleet.children["a"].gate.set()
        *_, last = await heard(synchronizer.pull(name("m"), {}))
        assert last.error.startswith("write blobs/x: no space left on device; what has come is kept")
        assert "`ollamactl prune --now`" in last.error


async def test_an_ensured_model_is_pulled_again_until_it_is_there_and_then_left_alone(tmp_path: Path) -> None:
    async with world(tmp_path, ensure=("m",), retry_initial_s=0.01) as (synchronizer, fleet):
        child = fleet.children["a"]
        child.error = "the registry is away"
        child.gate.set()
        await until(lambda: [view.state for view in synchronizer.view().ensure] == ["retrying"])
        assert synchronizer.view().ensure[0].reason == "the registry is away"
        await until(lambda: len(child.asked) > 2)
        child.error = ""
        await until(lambda: [view.state for view in synchronizer.view().ensure] == ["there"])


async def test_when_it_is_tried_again_comes_nearer(tmp_path: Path) -> None:
    async with world(tmp_path, ensure=("m",), retry_initial_s=60.0) as (synchronizer, fleet):
        fleet.children["a"].error = "the registry is away"
        fleet.children["a"].gate.set()
        await until(lambda: [view.state for view in synchronizer.view().ensure] == ["retrying"])
        first_s = synchronizer.view().ensure[0].retry_in_s or 0.0
        assert 50 < first_s <= 75
        await until(lambda: (synchronizer.view().ensure[0].retry_in_s or first_s) < first_s)


async def test_a_model_that_is_there_is_not_pulled(tmp_path: Path) -> None:
    put_model(tmp_path / "a", "m", b"config")
    async with world(tmp_path, ensure=("m", "not/a/valid/name")) as (synchronizer, fleet):
        await until(lambda: len(synchronizer.view().ensure) == 2)
        states = {view.model: view.state for view in synchronizer.view().ensure}
        assert states == {"m:latest": "there", "not/a/valid/name": "failing"}
        assert fleet.children["a"].asked == []


async def test_a_preloaded_model_is_loaded_for_ever_and_again_when_it_is_gone(tmp_path: Path) -> None:
    put_model(tmp_path / "a", "m", b"config")
    async with world(tmp_path, preload=("m",), preload_interval_s=0.01) as (synchronizer, fleet):
        await until(lambda: [view.state for view in synchronizer.view().preload] == ["loaded"])
        looks = fleet.looks
        await until(lambda: fleet.looks > looks + 5)
        asked = [found for child in fleet.children.values() for found in child.asked]
        assert asked == [("/api/generate", {"model": "m:latest", "stream": False, "keep_alive": -1})]
        for child in fleet.children.values():
            child.loaded.clear()
        await until(lambda: sum(len(child.asked) for child in fleet.children.values()) == 2)


async def test_a_preloaded_model_that_only_embeds_is_loaded_by_embedding_nothing(tmp_path: Path) -> None:
    put_model(tmp_path / "a", "m", b"config")
    async with world(tmp_path, preload=("m",), preload_interval_s=0.01) as (synchronizer, fleet):
        for child in fleet.children.values():
            child.refusal = (400, "m does not support generate")
        await until(lambda: [view.state for view in synchronizer.view().preload] == ["loaded"])
        assert ("/api/embed", {"model": "m:latest", "input": "", "keep_alive": -1}) in [
            found for child in fleet.children.values() for found in child.asked
        ]


async def test_a_preloaded_model_that_is_not_there_or_can_t_be_loaded_says_so_once(tmp_path: Path) -> None:
    with capture_logs() as logged:
        async with world(tmp_path, preload=("m",), preload_interval_s=0.01) as (synchronizer, fleet):
            for child in fleet.children.values():
                child.refusal = (500, "no room")
            await until(lambda: [view.state for view in synchronizer.view().preload] == ["missing"])
            put_model(tmp_path / "a", "m", b"config")
            await until(lambda: [view.state for view in synchronizer.view().preload] == ["failing"])
            assert synchronizer.view().preload[0].reason == "no room"
            await until(lambda: sum(len(child.asked) for child in fleet.children.values()) > 3)  # it is tried again
    told = [said["reason"] for said in logged if said["event"] == "preloaded model not loaded"]
    assert told == ["no child has it: pull it, or name it in models.ensure, too", "no room"]


async def test_that_a_preloaded_model_is_missing_while_it_is_pulled_is_no_news(tmp_path: Path) -> None:
    with capture_logs() as told:
        async with world(tmp_path, ensure=("m",), preload=("m",), preload_interval_s=0.01) as (synchronizer, fleet):
            await until(lambda: [view.state for view in synchronizer.view().preload] == ["missing"])
            fleet.children["a"].gate.set()
            await until(lambda: [view.state for view in synchronizer.view().preload] == ["loaded"])
    assert [entry for entry in told if entry["event"] == "preloaded model not loaded"] == []
