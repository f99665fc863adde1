"""`python -m ollamad.sim serve`: one simulated server, configured as the real one is."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from ollamad.sim.driver import Driver, driver_of
from ollamad.sim.server import simulated
from ollamad.sim.settings import Settings, settings_of


def _say(text: str) -> None:
    print(f'level=INFO source=sim msg="{text}"', file=sys.stderr, flush=True)  # noqa: T201 - as Ollama logs


async def _serve(settings: Settings, driver: Driver | None) -> None:
    """Serve until SIGTERM or SIGINT."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    foreign_bytes = driver.foreign_bytes if driver else lambda: 0
    async with (
        simulated(settings, leave=lambda: os._exit(1), foreign_bytes=foreign_bytes) as server,
        asyncio.TaskGroup() as tasks,
    ):
        _say(f"Listening on {server.base_url.removeprefix('http://')} (version {settings.version})")
        for device in settings.devices or ("cpu",):
            _say(f"inference compute id={device}")
        telling = tasks.create_task(driver.tell(server)) if driver else None
        await stopped.wait()
        if telling is not None:
            telling.cancel()


def main(arguments: list[str]) -> int:
    """Run the command; gives the exit status."""
    if arguments in (["--version"], ["-v"]):
        print(f"ollama version is {os.environ.get('SIM_VERSION') or '0.5.4'}")  # noqa: T201 - a command prints
        return 0
    if arguments != ["serve"]:
        print("usage: python -m ollamad.sim serve", file=sys.stderr)  # noqa: T201 - a command prints
        return 2
    try:
        settings = settings_of(os.environ)
        driver = driver_of(os.environ, settings.devices)
        if driver is not None and driver.is_to_crash():
            print("Error: CUDA error: an illegal memory access was encountered", file=sys.stderr)  # noqa: T201 - as Ollama does
            return 1
        asyncio.run(_serve(settings, driver))
    except (OSError, KeyError, ValueError) as error:
        print(f"Error: {error}", file=sys.stderr)  # noqa: T201 - as Ollama does
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
