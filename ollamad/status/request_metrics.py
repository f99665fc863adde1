"""The part of `GET /metrics` that tells of requests: how many, how they ended, how long they took, and their tokens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ollamad.errors import TurnedAway
from ollamad.fleet.tallies import ByModel, Histogram, Tallies
from ollamad.status.exposition import NO_LABELS, Exposition, Labels


def put_requests(page: Exposition, tallies: Tallies) -> None:
    """All requests that ended."""
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
        "ollamad_key_requests_total",
        "Requests that came with an API key, by its name and outcome.",
        [({"key": key, "outcome": outcome.value}, count) for (key, outcome), count in tallies.by_key.items()],
    )
    _put_tokens(page, tallies)
    for name, told, observed in _histograms(tallies):
        page.histogram(name, told, _by_model(observed))


def _put_tokens(page: Exposition, tallies: Tallies) -> None:
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
        "ollamad_key_output_tokens_total",
        "Tokens generated for an API key, as the children counted them.",
        [({"key": key}, count) for key, count in tallies.output_tokens_by_key.items()],
    )


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
