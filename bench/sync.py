"""What it costs to give a model to eight stores. `make bench-sync`.

A 10 GiB model, its bytes really on the disk, is put into one child's store of a running ollamad with eight simulated
children. Measured: from asking for a sync until every child lists it, and what the disk then holds more. In turn with
it, and in the same file system, what a script would do: `cp -al`, which links as well but checks nothing; and a copy of
1 GiB, which is what a script does that knows nothing of links. And a sync that finds nothing to do.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import aiohttp

from ollamad.sim.models import Shape, write_model
from ollamad.sim.store import Store
from tests.support.daemon import Daemon, Daemons
from tests.support.simulated import program_in

CHILDREN: Final = 8
MODELS: Final = 64
"""That all have already, and that take no room."""
MIB: Final = 1024**2
SIZE_BYTES: Final = 10 * 1024 * MIB


def used_bytes(folder: Path) -> int:
    """What lies under it on the disk, each file once however many names it has."""
    found = {(entry.st_dev, entry.st_ino): entry.st_blocks * 512 for entry in map(os.lstat, folder.rglob("*"))}
    return sum(found.values())


def put(folder: Path, name: str, size_bytes: int) -> None:
    """A model whose blob is no hole: a copy of it would take its time, and its room."""
    store = Store(folder)
    before = set(store.folder.glob("blobs/*"))
    write_model(store, name, Shape(size_bytes))
    for blob in set(store.folder.glob("blobs/*")) - before:
        with blob.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, max(blob.stat().st_size, 1))


async def synced_s(daemon: Daemon) -> float:
    """How long `POST /v1/sync` takes, to its last line."""
    began_s = time.monotonic()
    async with daemon.operator() as session, session.post("/v1/sync") as answer:
        last = (await answer.text()).splitlines()[-1]
    assert answer.status == 200, last
    assert "error" not in json.loads(last), last
    return time.monotonic() - began_s


async def all_list(ports: Sequence[int], name: str) -> bool:
    """Whether every child says that it has the model."""
    async with aiohttp.ClientSession() as session:
        for port in ports:
            async with session.get(f"http://127.0.0.1:{port}/api/tags") as answer:
                if name not in {model["name"] for model in (await answer.json())["models"]}:
                    return False
    return True


async def by_script(folder: Path) -> tuple[float, float]:
    """What cp takes to link a model into as many stores, and to copy a GiB of it into one."""
    put(folder / "0", "model", 1024 * MIB)
    linked_s = sum([await took_s("cp", "-al", folder / "0", folder / str(store)) for store in range(1, CHILDREN)])
    copied_s = await took_s("cp", "-r", "--reflink=never", "--sparse=never", folder / "0", folder / "copy")
    await took_s("rm", "-r", folder)
    return linked_s, copied_s


async def took_s(*command: str | Path) -> float:
    """How long a command takes."""
    began_s = time.monotonic()
    process = await asyncio.create_subprocess_exec(*command)
    assert await process.wait() == 0
    return time.monotonic() - began_s


async def measured(folder: Path, rounds: int, size_bytes: int) -> dict[str, Any]:
    """Every figure."""
    shared = folder / "models"
    for number in range(MODELS):
        write_model(Store(shared), f"held{number}", Shape(5 * 1024 * MIB))
    config: dict[str, dict[str, Any]] = {
        "gpus": {"cpu_children": CHILDREN},
        "models": {"store": "per-child"},
        "log": {"level": "info"},
    }
    told: dict[str, Any] = {"children": CHILDREN, "models": MODELS + rounds, "size_bytes": size_bytes}
    ours_s, idle_s, linked_s, whole_s, more_bytes = [], [], [], [], 0
    async with Daemons(folder).run(program_in(folder), config, store=shared) as daemon:
        await daemon.until_ready(CHILDREN)
        await synced_s(daemon)
        ports = [child["port"] for child in (await daemon.status())["children"]]
        for number in range(rounds):
            name = f"new{number}"
            put(shared / "children" / "cpu0", name, size_bytes)
            before_bytes = used_bytes(shared)
            ours_s.append(await synced_s(daemon))
            assert await all_list(ports, f"{name}:latest")
            more_bytes = max(more_bytes, used_bytes(shared) - before_bytes)
            idle_s.append(await synced_s(daemon))
            linked, copied = await by_script(folder / f"script{number}")
            linked_s.append(linked)
            whole_s.append(copied)
    return told | {
        "sync_s": statistics.median(ours_s),
        "more_bytes": more_bytes,
        "nothing_to_do_s": statistics.median(idle_s),
        "cp_link_s": statistics.median(linked_s),
        "cp_gib_s": statistics.median(whole_s),
    }


async def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a model of 1 GiB, once")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the figures")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        told = await measured(Path(folder), *((1, 1024 * MIB) if options.quick else (3, SIZE_BYTES)))
    size, more = told["size_bytes"] / 1024 / MIB, told["more_bytes"] / MIB
    print(f"{size:.0f} GiB to {CHILDREN} stores by ollamad   {told['sync_s']:.3f} s, {more:.2f} MiB more on the disk")
    print(f"as many links by cp -al          {told['cp_link_s']:.3f} s")
    print(f"1 GiB to one store by cp         {told['cp_gib_s']:.3f} s")
    print(f"nothing to do, {told['models']} models        {told['nothing_to_do_s']:.3f} s")
    if options.json:
        options.json.write_text(json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
