"""Telemetry over the real binding, in a process of its own, as the daemon runs it but with a test's patience.

Called with JSON: `timeout_s`, `pinned` (UUIDs with a child), `interval_s`, `rediscover_interval_s`, and `policy`, the
fields of HealthPolicy. Each line of standard input is answered by a line of JSON with all that is known then.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
from typing import Any

import structlog

from ollamad.fleet.telemetry import Telemetry
from ollamad.gpu.nvml import NvmlProvider
from ollamad.gpu.thread import GpuThread
from ollamad.supervision.gpu_health import HealthPolicy, Verdict


def known(telemetry: Telemetry, told: list[list[str]]) -> dict[str, Any]:
    return {
        "gpus": {gpu.uuid: dataclasses.asdict(telemetry.view(gpu)) for gpu in telemetry.gpus},
        "told": told,
        "events": [[one.event.uuid, one.event.kind.value] for one in telemetry.events],
        "listed": {
            uuid: None if processes is None else [one.pid for one in processes]
            for uuid, processes in telemetry.listed().items()
        },
    }


async def main() -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    asked = json.loads(sys.argv[1])
    told: list[list[str]] = []

    def hear(uuid: str, verdict: Verdict) -> None:
        told.append([uuid, verdict.health.value])

    thread = GpuThread(NvmlProvider(), timeout_s=asked["timeout_s"])
    inventory = await thread.discover()
    telemetry = Telemetry(
        thread,
        [gpu for gpu in inventory.gpus if gpu.uuid in asked["pinned"]],
        asked["interval_s"],
        policy=HealthPolicy(**asked["policy"]),
        rediscover_interval_s=asked["rediscover_interval_s"],
        on_verdict=hear,
    )
    async with asyncio.TaskGroup() as tasks:
        run = tasks.create_task(telemetry.run())
        while await asyncio.to_thread(sys.stdin.readline):
            sys.stdout.write(json.dumps(known(telemetry, told)) + "\n")
            sys.stdout.flush()
        run.cancel()
    thread.close()


if __name__ == "__main__":
    asyncio.run(main())
