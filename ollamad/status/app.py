"""The status listener: `/status`, `/healthz`, `/readyz`, each answered from one snapshot."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from ollamad.fleet.models_view import ModelsView
from ollamad.routing.snapshot import Snapshot
from ollamad.status.models import whole_status
from ollamad.status.view import is_ready


def status_runner(look: Callable[[], Snapshot], look_at_models: Callable[[], ModelsView]) -> web.AppRunner:
    """The status listener, not yet listening. `look` gives the snapshot, `look_at_models` how it stands with models."""

    async def get_status(_request: web.Request) -> web.Response:
        return web.json_response(whole_status(look(), look_at_models()))

    async def get_healthz(_request: web.Request) -> web.Response:
        return web.json_response({"ok": True})

    async def get_readyz(_request: web.Request) -> web.Response:
        ready = is_ready(look())
        return web.json_response({"ready": ready}, status=200 if ready else 503)

    application = web.Application()
    application.router.add_get("/status", get_status)
    application.router.add_get("/healthz", get_healthz)
    application.router.add_get("/readyz", get_readyz)
    return web.AppRunner(application, access_log=None, shutdown_timeout=0.5)
