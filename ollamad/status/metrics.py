"""`GET /metrics`: counts from the tallies, gauges from a snapshot. Base units, and labels whose number is bounded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ollamad import __version__
from ollamad.errors import TurnedAway
from ollamad.fleet.synchronizer import MADE
from ollamad.fleet.tallies import ByModel, Histogram, SyncTally, Tallies
from ollamad.routing.snapshot import ChildView, Snapshot
from ollamad.status.exposition import NO_LABELS, Exposition, Labels
from ollamad.status.gpu_metrics import put_gpus
from ollamad.status.view import is_ready
from ollamad.supervision.state import Phase, Want


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
    _put_requests(page, tallies)
    _put_children(page, snapshot, tallies)
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


def _put_requests(page: Exposition, tallies: Tallies) -> None:
    page.counter(
        "ollamad_requests_total",
        "Requests that ended, by model, the child that had them last, and outcome.",
        [
            ({"model": model, "child": child, "outcome": outcome.value}, count)
            for (model, child, outcome), count in tallies.requests.items()
        ],
    )
    page.counter(
        "ollamad_requests_refused_total",
        "Requests that ollamad refused before a child saw them, by reason.",
        [({"reason": why.value}, tallies.refusals[why]) for why in TurnedAway],
    )
    page.counter(
        "ollamad_request_retries_total",
        "Attempts after the first, on another child.",
        [(NO_LABELS, tallies.retries)],
    )
    page.counter(
        "ollamad_response_bytes_total",
        "Bytes of response bodies sent to clients.",
        [({"model": model}, count) for model, count in tallies.response_bytes.items()],
    )
    page.counter(
        "ollamad_routing_decisions_total",
        "Requests given to a child, by why it was that child; each attempt counts.",
        [({"reason": reason}, count) for reason, count in tallies.decisions.items()],
    )
    page.counter(
        "ollamad_prompt_tokens_total",
        "Tokens of prompts, as the children counted them.",
        [({"model": model}, count) for model, count in tallies.prompt_tokens.items()],
    )
    page.counter(
        "ollamad_output_tokens_total",
        "Tokens generated, as the children counted them.",
        [({"model": model}, count) for model, count in tallies.output_tokens.items()],
    )
    page.counter(
        "ollamad_key_requests_total",
        "Requests that came with an API key, by its name and outcome.",
        [({"key": key, "outcome": outcome.value}, count) for (key, outcome), count in tallies.by_key.items()],
    )
    page.counter(
        "ollamad_key_output_tokens_total",
        "Tokens generated for an API key, as the children counted them.",
        [({"key": key}, count) for key, count in tallies.output_tokens_by_key.items()],
    )
    for name, told, observed in _histograms(tallies):
        page.histogram(name, told, _by_model(observed))


def _histograms(tallies: Tallies) -> Iterator[tuple[str, str, ByModel]]:
    yield (
        "ollamad_request_queue_seconds",
        "From asking for a child to having one.",
        tallies.queue_s,
    )
    yield (
        "ollamad_request_first_byte_seconds",
        "From having a child to the first byte of its response: load, prompt and first token.",
        tallies.first_byte_s,
    )
    yield (
        "ollamad_request_duration_seconds",
        "All of a request that a child answered.",
        tallies.duration_s,
    )
    yield (
        "ollamad_request_longest_pause_seconds",
        "The longest silence within a response: the worst time between two tokens.",
        tallies.longest_pause_s,
    )
    yield (
        "ollamad_output_inter_token_seconds",
        "Mean time between two tokens of a streamed response, by its first and last byte; a response an observation.",
        tallies.inter_token_s,
    )
    yield (
        "ollamad_output_tokens_per_second",
        "Speed of generation, as the child measured it, a response an observation.",
        tallies.tokens_per_s,
    )
    yield (
        "ollamad_model_load_seconds",
        "Loads that ollamad made, those that failed left out.",
        tallies.load_s,
    )


def _by_model(observed: ByModel) -> Iterable[tuple[Labels, Histogram]]:
    return (({"model": model}, histogram) for model, histogram in observed.all.items())


def _put_children(page: Exposition, snapshot: Snapshot, tallies: Tallies) -> None:
    children = snapshot.children

    def each(name: str, told: str, values: Iterable[float | None]) -> None:
        labelled = zip(({"child": child.id} for child in children), values, strict=True)
        page.gauge(name, told, labelled)

    page.gauge(
        "ollamad_child_phase",
        "1 for the phase that a child is in, 0 for the others.",
        [({"child": child.id, "phase": phase.value}, phase is child.phase) for child in children for phase in Phase],
    )
    each("ollamad_child_wanted", "Whether it is wanted up.", (child.want is Want.UP for child in children))
    each("ollamad_child_routable", "Whether requests are sent to it.", (child.routable for child in children))
    each("ollamad_child_requests_in_flight", "Requests that it has now.", (child.in_flight for child in children))
    each("ollamad_child_slots", "Requests of one model that it serves at once.", (child.slots for child in children))
    each("ollamad_child_models", "Models that it has loaded.", (len(child.residents) for child in children))
    each(
        "ollamad_child_models_age_seconds",
        "How old the knowledge of what it has loaded is.",
        (_age(child.residents_at_s, snapshot.taken_at_s) for child in children),
    )
    each(
        "ollamad_child_pinning_fault",
        "Whether its models are known to be elsewhere than where it was pinned.",
        (child.pinning is not None and child.pinning.is_fault for child in children),
    )
    each(
        "ollamad_child_quarantined",
        "Whether it must not run although it is wanted.",
        (child.quarantine is not None for child in children),
    )
    each(
        "ollamad_child_outdated",
        "Whether it runs another ollama program than the one on disk.",
        (child.outdated for child in children),
    )
    page.gauge(
        "ollamad_child_model_vram_bytes",
        "VRAM that a model takes on a child, as /api/ps says.",
        _vram(children, tallies),
    )
    page.counter(
        "ollamad_model_load_failures_total",
        "Loads that ollamad made and that failed.",
        [({"child": child.id}, tallies.loads_failed[child.id]) for child in children],
    )
    page.counter(
        "ollamad_child_starts_total",
        "Processes that were started for it.",
        [({"child": child.id}, child.life) for child in children],
    )
    page.counter(
        "ollamad_child_deaths_total",
        "Processes of it that ended although nobody had asked for it, by cause.",
        [({"child": child, "cause": cause.value}, count) for (child, cause), count in tallies.deaths.items()],
    )


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
        [(NO_LABELS, _age(sync.last_good_s, snapshot.taken_at_s))],
    )


def _vram(children: Iterable[ChildView], tallies: Tallies) -> Iterator[tuple[Labels, float]]:
    """By label: on one child several models may be counted together."""
    for child in children:
        sums: Counter[str] = Counter()
        for resident in child.residents:
            if resident.vram_bytes is not None:
                sums[tallies.label(resident.model)] += resident.vram_bytes
        for model, size_bytes in sums.items():
            yield {"child": child.id, "model": model}, size_bytes


def _age(then_s: float | None, now_s: float) -> float | None:
    return None if then_s is None else round(now_s - then_s, 3)
