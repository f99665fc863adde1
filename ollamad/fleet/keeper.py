"""Keeps a warden alive: the process that ends our children should ollamad itself be killed."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Final

import structlog

from ollamad.ollama import warden

log = structlog.get_logger()

SHORT_LIFE_S: Final = 1.0
RESTART_PAUSE_S: Final = 1.0
"""Before another, where one could not be started or had a short life. Else there is none: whoever kills the warden and
ollamad within it (the kernel, short of memory) would leave runners behind."""


async def keep_warden(instance: str) -> None:
    """Run until cancelled. The warden then sees the end of its input, finds nothing to end, and is waited for."""
    clock = asyncio.get_running_loop().time
    while True:
        since_s = clock()
        try:
            status = await _run_one(instance)
        except OSError as error:
            log.warning("warden can't be started", error=str(error))
            await asyncio.sleep(RESTART_PAUSE_S)
        else:
            log.warning("warden died, starting another", status=status)
            if clock() - since_s < SHORT_LIFE_S:
                await asyncio.sleep(RESTART_PAUSE_S)


async def _run_one(instance: str) -> int:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", str(warden.__file__), instance),
        stdin=asyncio.subprocess.PIPE,
        start_new_session=True,  # a Ctrl-C in our terminal is not for it
        env={"PATH": os.environ.get("PATH", "")},
        cwd="/",
    )
    try:
        return await process.wait()
    finally:
        if process.stdin is not None:
            process.stdin.close()
        await process.wait()
