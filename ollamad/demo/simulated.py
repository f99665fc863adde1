"""`ollamad demo`: the real daemon over four GPUs and four Ollamas that are simulated, with traffic, in one command."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from ollamad import daemon
from ollamad.config import Config
from ollamad.daemon import Machine
from ollamad.demo.driver import DriverFolder
from ollamad.demo.faults import Faults
from ollamad.demo.provider import SimulatedGpus
from ollamad.demo.traffic import Traffic
from ollamad.errors import OllamadError
from ollamad.listening import Listening

GPUS: Final = 4


async def run(
    config: Config,
    folder: DriverFolder,
    traffic: Traffic,
    on_listening: Callable[[Listening], None],
    reread: Callable[[], Config],
) -> None:
    """Run it until it is told to stop. Raises what `daemon.run` does."""
    gpus = SimulatedGpus(folder, GPUS)
    failure: OllamadError | None = None
    async with asyncio.TaskGroup() as tasks:
        sending: list[asyncio.Task[None]] = []

        def listening(where: Listening) -> None:
            sending.append(tasks.create_task(traffic.run(where.proxy_url), name="traffic"))
            on_listening(where)

        try:
            machine = Machine(provider=lambda: gpus, demo=Faults(folder, gpus, traffic))
            await daemon.run(config, listening, reread, machine)
        except OllamadError as error:  # raised again outside of the group, which would wrap it
            failure = error
        finally:
            for task in sending:
                task.cancel()
    if failure is not None:
        raise failure


def banner(listening: Listening) -> str:
    """What there is to see, and what to try."""
    return f"""
ollamad serves {GPUS} simulated GPUs on {listening.proxy_url}, and sends itself some traffic.

See it:        {listening.status_url}/     or, in another terminal:  ollamactl top

Break it:      ollamactl demo kill gpu1        its server gets SIGKILL; nobody notices
               ollamactl demo hang gpu2        no more tokens, while it says that it is well
               ollamactl demo lose gpu3        off the bus, Xid 79
               ollamactl demo fill gpu0 20GiB  another program takes its memory
               ollamactl demo traffic 12/s     more than it was built for
               ollamactl demo --help           the rest
Mend it:       ollamactl demo heal

No GPU, no Ollama, no model is needed or used: answers are recitations. The same with a real Ollama and a small model:
ollamad demo --real. Ctrl-C stops it.
"""
