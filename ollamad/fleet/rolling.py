"""A rolling restart: one child at a time, and never fewer ready ones than the operator allows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

import structlog

from ollamad.errors import NoAnswer, OperationFailed
from ollamad.fleet.child import Child
from ollamad.fleet.fleet import Fleet
from ollamad.ollama.client import ChildClient
from ollamad.supervision.state import Phase, Restart, Want

log = structlog.get_logger()

Tell = Callable[[Mapping[str, object]], None]
"""Hears how a long operation goes on."""


async def rolling_restart(fleet: Fleet, names: Iterable[str], tell: Tell, *, spared: bool = True) -> None:
    """Restart these children in turn. Raises OperationFailed, with the rest left as it is.

    Not `spared`, a child is restarted also where fewer others are wanted than should stay ready, such as none: what is
    asked meanwhile waits.
    """
    for name in names:
        child = fleet.children.get(name)
        if child is None or child.state.want is Want.DOWN:
            tell({"child": name, "step": "left alone", "why": "it is not wanted up"})
            continue
        if child.state.quarantine is not None:  # it comes back as a new process, whenever that is
            tell({"child": name, "step": "left alone", "why": f"it is in quarantine: {child.state.quarantine}"})
            continue
        await _until_spare(fleet, child, tell, spared=spared)
        await _restart(fleet, child, tell)


async def _until_spare(fleet: Fleet, child: Child, tell: Tell, *, spared: bool) -> None:
    """Wait until the child can be missed."""
    name, asked = child.plan.id, fleet.config.supervision.rolling_ready_min
    if child.state.phase is not Phase.READY:
        return  # nobody misses it
    wanted = sum(other.state.want is Want.UP for other in fleet.children.values() if other is not child)
    least = asked if spared else min(asked, wanted)

    def others() -> int:
        return sum(view.routable for view in fleet.snapshot().children if view.id != name)

    if others() >= least:
        return
    if wanted >= least:
        tell({"child": name, "step": "waits for others", "ready": others(), "rolling_ready_min": least})
        if await fleet.changed.until(lambda: others() >= least, fleet.config.ollama.start_timeout_s):
            return
    raise OperationFailed(
        f"{name} was not restarted: only {others()} other children are ready, and"
        f" supervision.rolling_ready_min = {asked}; mend the others, or restart it alone: ollamactl restart {name}"
    )


async def _restart(fleet: Fleet, child: Child, tell: Tell) -> None:
    name, before = child.plan.id, child.state
    loaded = [resident.model for resident in child.known.residents]
    tell({"child": name, "step": "drains", "streams": len(child.streams())})
    child.tell(Restart())
    config = fleet.config
    patience_s = config.supervision.drain_timeout_s + config.ollama.stop_timeout_s + config.ollama.start_timeout_s

    def settled() -> bool:
        state = child.state
        if state.phase is before.phase and state.life == before.life:
            return False  # failed as it was: it has not been told yet
        over = state.phase in {Phase.FAILED, Phase.STOPPED}
        return over or (state.life > before.life and state.phase is Phase.READY and child.known.trusted)

    if not await fleet.changed.until(settled, patience_s) or child.state.phase is not Phase.READY:
        raise OperationFailed(
            f"{name} did not come back ({child.state.phase.value}: {child.state.quarantine or child.state.reason});"
            " the children after it were left alone"
        )
    tell({"child": name, "step": "ready", "ollama_version": child.known.version})
    if config.supervision.rolling_reload:
        await _load_again(fleet, child, loaded, tell)


async def _load_again(fleet: Fleet, child: Child, models: Iterable[str], tell: Tell) -> None:
    for model in models:
        tell({"child": child.plan.id, "step": "loads", "model": model})
        client = ChildClient(
            fleet.session, f"http://127.0.0.1:{child.known.port}", fleet.config.supervision.load_stall_s
        )
        with suppress(NoAnswer):  # an embedding model can't be loaded so; it is when it is next asked
            await client.load(model)
            child.has_begun(child.state.life, model)
