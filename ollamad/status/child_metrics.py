"""The part of `GET /metrics` that tells of children: how each stands now, and how many processes it has had."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from ollamad.fleet.tallies import Tallies
from ollamad.routing.snapshot import ChildView, Snapshot
from ollamad.status.age import age_s
from ollamad.status.exposition import Exposition, Labels
from ollamad.supervision.state import Phase, Want

Reading = Callable[[ChildView], float]
GAUGES: Final[tuple[tuple[str, str, Reading], ...]] = (
    ("ollamad_child_wanted", "Whether it is wanted up.", lambda child: child.want is Want.UP),
    ("ollamad_child_routable", "Whether requests are sent to it.", lambda child: child.routable),
    ("ollamad_child_requests_in_flight", "Requests that it has now.", lambda child: child.in_flight),
    ("ollamad_child_slots", "Requests of one model that it serves at once.", lambda child: child.slots),
    ("ollamad_child_models", "Models that it has loaded.", lambda child: len(child.residents)),
    (
        "ollamad_child_pinning_fault",
        "Whether its models are known to be elsewhere than where it was pinned.",
        lambda child: child.pinning is not None and child.pinning.is_fault,
    ),
    (
        "ollamad_child_quarantined",
        "Whether it must not run although it is wanted.",
        lambda child: child.quarantine is not None,
    ),
    (
        "ollamad_child_outdated",
        "Whether it runs another ollama program than the one on disk.",
        lambda child: child.outdated,
    ),
)


def put_children(page: Exposition, snapshot: Snapshot, tallies: Tallies) -> None:
    """All children."""
    children = snapshot.children
    page.gauge(
        "ollamad_child_phase",
        "1 for the phase that a child is in, 0 for the others.",
        [({"child": child.id, "phase": phase.value}, phase is child.phase) for child in children for phase in Phase],
    )
    for name, told, reading in GAUGES:
        page.gauge(name, told, [(_labels(child), reading(child)) for child in children])
    page.gauge(
        "ollamad_child_models_age_seconds",
        "How old the knowledge of what it has loaded is.",
        [(_labels(child), age_s(child.residents_at_s, snapshot.taken_at_s)) for child in children],
    )
    page.gauge(
        "ollamad_child_model_vram_bytes",
        "VRAM that a model takes on a child, as /api/ps says.",
        _vram(children, tallies),
    )
    _put_counts(page, children, tallies)


def _put_counts(page: Exposition, children: Iterable[ChildView], tallies: Tallies) -> None:
    page.counter(
        "ollamad_model_load_failures_total",
        "Loads that ollamad made and that failed.",
        [(_labels(child), tallies.loads_failed[child.id]) for child in children],
    )
    page.counter(
        "ollamad_child_starts_total",
        "Processes that were started for it.",
        [(_labels(child), child.life) for child in children],
    )
    page.counter(
        "ollamad_child_deaths_total",
        "Processes of it that ended although nobody had asked for it, by cause.",
        [({"child": child, "cause": cause.value}, count) for (child, cause), count in tallies.deaths.items()],
    )


def _labels(child: ChildView) -> Labels:
    return {"child": child.id}


def _vram(children: Iterable[ChildView], tallies: Tallies) -> Iterator[tuple[Labels, float]]:
    """By label: on one child several models may be counted together."""
    for child in children:
        sums: Counter[str] = Counter()
        for resident in child.residents:
            if resident.vram_bytes is not None:
                sums[tallies.label(resident.model)] += resident.vram_bytes
        for model, size_bytes in sums.items():
            yield {"child": child.id, "model": model}, size_bytes
