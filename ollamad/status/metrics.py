"""`GET /metrics`: counts from the tallies, gauges from a snapshot. Base units, and labels whose number is bounded.

Here is what tells of ollamad itself and of the stores; requests, children and GPUs have a module each.
"""

from __future__ import annotations

from dataclasses import dataclass

from ollamad import __version__
from ollamad.fleet.synchronizer import MADE
from ollamad.fleet.tallies import SyncTally, Tallies
from ollamad.routing.snapshot import Snapshot
from ollamad.status.age import age_s
from ollamad.status.child_metrics import put_children
from ollamad.status.exposition import NO_LABELS, Exposition
from ollamad.status.gpu_metrics import put_gpus
from ollamad.status.request_metrics import put_requests
from ollamad.status.view import is_ready


@dataclass(frozen=True, slots=True)
class Own:
    """What ollamad's own process takes."""

    cpu_s: float
    memory_bytes: int
    open_fds: int
    started_s: float
    """Seconds since 1970."""


def metrics(snapshot: Snapshot, tallies: Tallies, own: Own) -> str:
    """The whole page."""
    page = Exposition()
    _put_daemon(page, snapshot, own)
    put_requests(page, tallies)
    put_children(page, snapshot, tallies)
    _put_sync(page, snapshot, tallies.sync)
    put_gpus(page, snapshot)
    return page.text()


def _put_daemon(page: Exposition, snapshot: Snapshot, own: Own) -> None:
    def one(name: str, told: str, value: float) -> None:
        page.gauge(name, told, [(NO_LABELS, value)])

    page.gauge("ollamad_build_info", "1, with the version of ollamad as a label.", [({"version": __version__}, 1)])
    one("ollamad_ready", "Whether at least one child takes requests (1) or none does (0).", is_ready(snapshot))
    one("ollamad_stopping", "Whether ollamad is on its way out.", snapshot.stopping)
    one("ollamad_requests_waiting", "Requests that wait for a child.", snapshot.waiting)
    flying = sum(child.in_flight for child in snapshot.children)
    one("ollamad_requests_in_flight", "Requests that a child has now.", flying)
    page.counter("process_cpu_seconds_total", "CPU time of ollamad itself.", [(NO_LABELS, own.cpu_s)])
    one("process_resident_memory_bytes", "Memory of ollamad itself.", own.memory_bytes)
    one("process_open_fds", "Open files and connections of ollamad itself.", own.open_fds)
    one("process_start_time_seconds", "When ollamad was started, since 1970.", own.started_s)


def _put_sync(page: Exposition, snapshot: Snapshot, sync: SyncTally) -> None:
    page.counter(
        "ollamad_sync_rounds_total",
        "Looks at all stores that made them equal (done), or could not to the last (failed).",
        [({"outcome": "done" if good else "failed"}, sync.rounds[good]) for good in (True, False)],
    )
    page.counter(
        "ollamad_sync_blobs_total",
        "Blobs that came into a store from another, by the way; only copies take room.",
        [({"way": way.value}, sync.blobs[way.value]) for way in MADE],
    )
    page.counter("ollamad_sync_copied_bytes_total", "Bytes that were copied for it.", [(NO_LABELS, sync.copied_bytes)])
    page.gauge(
        "ollamad_sync_last_success_age_seconds",
        "How long ago a look at all stores found or made them equal; none before the first.",
        [(NO_LABELS, age_s(sync.last_good_s, snapshot.taken_at_s))],
    )
