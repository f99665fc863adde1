"""What a simulated server does to its GPUs, told to whoever plays the driver: a folder that both know.

Each server keeps one file there, `PID.json`: its devices, its runners with the VRAM that each has, what it works on.
A driver knows of a process until that is dead, not until it says goodbye; so the reader goes by the processes, and the
file of a killed server is the reader's to remove. The other way go `UUID.foreign`, bytes of VRAM that others have, and
`CHILD.crash`: a server of that name exits when it starts.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ollamad.sim.server import Simulated

TELL_S: Final = 0.1
"""How often a server tells; what a real driver is asked for is never older than its last call."""
CHILD_VARIABLE: Final = "OLLAMAD_CHILD"


@dataclass(frozen=True, slots=True)
class Driver:
    """One server's side of the folder."""

    folder: Path
    devices: tuple[str, ...]
    child: str = ""
    """Who it is to whoever started it."""

    def foreign_bytes(self) -> int:
        """VRAM of our devices that others have."""
        total = 0
        for device in self.devices:
            with suppress(OSError, ValueError):
                total += int((self.folder / f"{device}.foreign").read_text())
        return total

    def is_to_crash(self) -> bool:
        """Whether this server is meant to exit when it starts."""
        return (self.folder / f"{self.child}.crash").exists()

    async def tell(self, server: Simulated) -> None:
        """Tell what is true until cancelled."""
        scheduler, clock = server.site.scheduler, server.site.clock
        port = int(server.base_url.rpartition(":")[2])
        file = self.folder / f"{os.getpid()}.json"
        try:
            while True:
                told = {
                    "pid": os.getpid(),
                    "child": self.child,
                    "port": port,
                    "devices": self.devices,
                    "runners": scheduler.occupants(),
                    "streams": scheduler.working,
                    "loading": scheduler.loading,
                }
                with suppress(OSError):  # a full disk, a folder that is gone: nobody sees us then
                    _write(file, json.dumps(told))
                await clock.sleep(TELL_S)
        finally:
            file.unlink(missing_ok=True)


def driver_of(environment: Mapping[str, str], devices: tuple[str, ...]) -> Driver | None:
    """The folder that `SIM_DRIVER` names; None where nobody plays the driver."""
    folder = environment.get("SIM_DRIVER")
    return Driver(Path(folder), devices, environment.get(CHILD_VARIABLE, "")) if folder else None


def _write(file: Path, text: str) -> None:
    """Whole or not at all: it is read while it is written."""
    fresh = file.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(file)
