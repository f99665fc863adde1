"""A process of its own that asks the real binding: the dynamic linker reads LD_LIBRARY_PATH only when one starts.

Called with the deadline in seconds. A line of standard input is the UUIDs to sample, apart by spaces, or "events" to
take what the driver reported with them, or empty to discover; the answer is a line of JSON, either the value or
{"error": …, "uuid": …}, the GPU that a call which does not return is about.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
from enum import Enum
from typing import Any

from ollamad.errors import GpuError, GpuSilent
from ollamad.gpu.nvml import NvmlProvider
from ollamad.gpu.thread import GpuThread


async def answer(thread: GpuThread, uuids: tuple[str, ...]) -> Any:
    try:
        if uuids == ("events",):
            return [dataclasses.asdict(event) for event in thread.take_events()]
        if uuids:
            return [dataclasses.asdict(sample) for sample in await thread.sample(uuids)]
        return dataclasses.asdict(await thread.discover())
    except GpuSilent as error:
        return {"error": str(error), "uuid": error.uuid}
    except GpuError as error:
        return {"error": str(error)}


def _plain(value: object) -> Any:
    """Enums are their values."""
    if isinstance(value, Enum):
        return value.value
    raise TypeError(value)


async def main() -> None:
    thread = GpuThread(NvmlProvider(), timeout_s=float(sys.argv[1]))
    while line := await asyncio.to_thread(sys.stdin.readline):
        sys.stdout.write(json.dumps(await answer(thread, tuple(line.split())), default=_plain) + "\n")
        sys.stdout.flush()
    thread.close()


if __name__ == "__main__":
    asyncio.run(main())
