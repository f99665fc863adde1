"""`/sim/state` and `/sim/fault`: what a test sees and does that no Ollama offers."""

from __future__ import annotations

import json
import os
from http import HTTPStatus
from typing import Any

from aiohttp import web

from ollamad.sim.faults import Fault
from ollamad.sim.replies import Failure, reply
from ollamad.sim.runner import Runner
from ollamad.sim.site import Site


class Control:
    """Handlers for one server."""

    def __init__(self, site: Site) -> None:
        self._site = site

    async def state(self, _request: web.Request) -> web.Response:
        """`GET /sim/state`: what a driver would see, and what has happened."""
        scheduler = self._site.scheduler
        return reply(
            {
                "pid": os.getpid(),
                "devices": list(self._site.settings.devices),
                "vram_bytes": self._site.settings.vram_bytes,
                "vram_used_bytes": sum(runner.vram_bytes for runner in scheduler.runners),
                "runners": [_told(runner) for runner in scheduler.runners],
                "waiting": scheduler.waiting,
                "loads": scheduler.counts.loads,
                "unloads": scheduler.counts.unloads,
                "requests": scheduler.counts.requests,
                "faults": self._site.faults.told(),
            }
        )

    async def fault(self, request: web.Request) -> web.Response:
        """`POST /sim/fault` with `{"fault": "hang"}`; `"on": false` takes it back, without a name all of them."""
        try:
            asked = json.loads(await request.read())
            fault = Fault(asked["fault"]) if "fault" in asked else None
            value = float(asked.get("value", 1.0))
        except (ValueError, TypeError, AttributeError) as error:
            known = ", ".join(fault.value for fault in Fault)
            raise Failure(HTTPStatus.BAD_REQUEST, f'say {{"fault": one of {known}}}: {error}') from None
        if not asked.get("on", True) or fault is None:
            self._site.faults.clear(fault)
        else:
            self._set(fault, value)
        self._site.scheduler.faults_changed()
        return reply(self._site.faults.told())

    def _set(self, fault: Fault, value: float) -> None:
        if fault is Fault.EXIT:
            self._site.leave()
            return
        self._site.faults.set(fault, value)
        if fault is Fault.HANG:
            self._site.scheduler.hang()


def _told(runner: Runner) -> dict[str, Any]:
    return {
        "model": runner.model.name.shortest,
        "pid": runner.pid,
        "vram_bytes": runner.vram_bytes,
        "size_bytes": runner.size_bytes,
        "parallel": runner.parallel,
        "requests": runner.refs,
        "streams": runner.streams,
        "hung": runner.hung,
        "context": runner.load.context,
    }
