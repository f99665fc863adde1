"""A new configuration, taken into use by what it changes: children whose own settings are the same go on."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Final

import structlog

from ollamad.config.schema import Config
from ollamad.errors import OllamadError
from ollamad.fleet.difference import changed_keys, compare, waiting_keys
from ollamad.fleet.discovery import NO_GPU, plan
from ollamad.fleet.fleet import Fleet
from ollamad.fleet.rolling import Tell, rolling_restart
from ollamad.gpu.model import Inventory
from ollamad.ollama.program import find_program
from ollamad.supervision.state import Drain, Phase

log = structlog.get_logger()

NEW_GPUS_LOOK_S: Final = 1.0
"""How often to see whether telemetry has found a new GPU; it looks for one every `gpus.rediscover_interval_s`."""


async def reload(fleet: Fleet, config: Config, applied: Callable[[Config], None], tell: Tell) -> None:
    """Go by this configuration from now on. Raises ConfigError or StartError, and then nothing has changed.

    `applied` is called when it is in force, before the children follow, one by one. Raises OperationFailed where one of
    them does not come back.
    """
    program = find_program(config.ollama.binary, os.environ.get("PATH"))
    inventory = Inventory(fleet.gpus, None)
    wanted, _ = plan(config.gpus, inventory, NO_GPU)
    difference = compare([child.plan for child in fleet.children.values()], wanted)
    changed = changed_keys(fleet.config, config)
    facts = {
        "changed": list(changed),
        "after_restart_of_ollamad": waiting_keys(fleet.started_with, config),
        "added": [child.id for child in difference.added],
        "removed": list(difference.removed),
    }
    fleet.program.move(program)
    fleet.configure(config, difference.plans)
    applied(config)
    log.info("configuration reloaded", **facts)
    tell({"step": "configuration", **facts})
    async with fleet.shaping:
        for name in difference.removed:
            await _remove(fleet, name, tell)
        for child in difference.added:
            tell({"child": child.id, "step": "added"})
            fleet.add(child)
    changed_children = [name for name, child in fleet.children.items() if not fleet.is_dressed(child)]
    await rolling_restart(fleet, changed_children, tell, spared=False)


async def mind_new_gpus(fleet: Fleet) -> None:
    """Give a child to each GPU that appears and that the configuration includes, until cancelled."""
    known = {gpu.uuid for gpu in fleet.gpus}
    while True:
        await asyncio.sleep(NEW_GPUS_LOOK_S)
        if {gpu.uuid for gpu in fleet.gpus} <= known:
            continue
        async with fleet.shaping:  # what a reload is about to add has not appeared
            known |= {gpu.uuid for gpu in fleet.gpus}
            _take_in(fleet)


def _take_in(fleet: Fleet) -> None:
    try:
        wanted, _ = plan(fleet.config.gpus, Inventory(fleet.gpus, None), "")
    except OllamadError as error:
        log.warning("new gpu left out", reason=str(error))
        return
    for child in compare([child.plan for child in fleet.children.values()], wanted).added:
        if child.gpus:
            log.info("child added", child=child.id, reason="its gpu has appeared")
            fleet.add(child)


async def _remove(fleet: Fleet, name: str, tell: Tell) -> None:
    tell({"child": name, "step": "removed"})
    child = fleet.children[name]
    child.tell(Drain())
    supervision = fleet.config.supervision
    await fleet.changed.until(
        lambda: child.state.phase is Phase.STOPPED, supervision.drain_timeout_s + fleet.config.ollama.stop_timeout_s
    )
    await fleet.remove(name)
